"""What models are set beside, besides their base: BM25 below, and a cross-encoder on top as a ceiling."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mteb
from mteb.languages import language_label
from sentence_transformers import CrossEncoder

from eval.measure.encoding import Encoding
from eval.measure.results import Key, Measured
from eval.measure.search import kept, searched
from eval.measure.tasks import Task
from foils.evidence import read_rankings
from foils.loading import load_reranker
from foils.metrics import Rankings, top
from foils.models import ModelReference, resolve_model
from foils.provenance import sha256_json
from foils.records import Result

logger = logging.getLogger(__name__)

RERANKED = 100
"""The base's best hits that a cross-encoder ranks anew; what lies deeper keeps its order behind them."""
_BM25 = "mteb/baseline-bm25s"


def bm25(tasks: Sequence[Task], root: Path) -> list[Result]:
    """The results of mteb's own BM25, with stemmer and stop words of each task's language."""
    model = mteb.get_model(_BM25)
    about = model.mteb_model_meta
    results = []
    for task in tasks:
        if task.language_assumed:
            logger.warning(
                "task %s: nothing says its language; BM25 takes %s, as its passages seem to be",
                *(task.name, language_label(task.mteb.metadata.eval_langs[0])),
            )
        mark = f"sha256:{sha256_json([about.name, about.revision, task.mteb.metadata.eval_langs])}"
        reference = ModelReference(str(about.name), str(about.revision), location="", weights=mark, identity=mark)
        results.append(kept(reference, task, Encoding("none"), root, partial(searched, model)))
    return results


def ceiling(
    cross_encoder: str, tasks: Sequence[Task], base_results: Sequence[Result], root: Path
) -> tuple[str, list[Result]]:
    """A label and the results of a cross-encoder that ranks the base's best hits anew.

    Raises:
        UserError: it is not a cross-encoder with one score.
    """
    reference = resolve_model(cross_encoder)
    loaded: list[CrossEncoder] = []

    def measured(base: Result, task: Task) -> Measured:
        loaded[:] = loaded or [load_reranker(reference.location, f"cross_encoder {cross_encoder}")]
        rankings = read_rankings(Key.of(base).folder(root) / "rankings.parquet")
        return Measured(reranked(loaded[0], rankings, task), task.qrels())

    results = []
    for task, base in zip(tasks, base_results, strict=True):
        mark = f"sha256:{sha256_json([base.identity, base.precision, reference.identity, RERANKED])}"
        both = ModelReference(f"{base.model} + {reference.name}", reference.revision, "", mark, mark)
        how = Encoding(base.precision, None, base.prompts, base.pooling)
        results.append(kept(both, task, how, root, partial(measured, base)))
    return f"base + {reference.name.rpartition('/')[2]}", results


def reranked(model: CrossEncoder, rankings: Rankings, task: Task) -> dict[str, dict[str, float]]:
    """Rankings whose best hits a cross-encoder has put in its own order."""
    ordered = {query: top(hits, len(hits)) for query, hits in rankings.items()}
    pairs = [(query, passage) for query, hits in ordered.items() for passage, _ in hits[:RERANKED]]
    queries, passages = task.queries(), task.passages(passage for _, passage in pairs)
    scores = model.predict([(queries[query], passages[passage]) for query, passage in pairs])
    found: dict[str, dict[str, float]] = {query: {} for query in rankings}
    for (query, passage), score in zip(pairs, scores.tolist(), strict=True):
        found[query][passage] = score
    for query, hits in ordered.items():
        least = min(found[query].values(), default=0.0)
        found[query] |= {passage: least - rank for rank, (passage, _) in enumerate(hits[RERANKED:], start=1)}
    return found
