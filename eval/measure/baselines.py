"""What models are set beside, besides their base: BM25 below, and a cross-encoder on top as a ceiling."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mteb
from sentence_transformers import CrossEncoder

from eval.measure.results import Key, Measured, scores_of
from eval.measure.search import Measurable, kept, searched
from eval.measure.tasks import Task
from eval.recipe import EvalRecipe
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


def baselines(config: EvalRecipe, tasks: Sequence[Task], root: Path) -> list[tuple[str, list[Result]]]:
    """A label and its results for each baseline that the recipe names."""
    if "bm25" not in config.baselines:
        return []
    model = mteb.get_model(_BM25)
    about = model.mteb_model_meta
    results = []
    for task in tasks:
        language = task.mteb.metadata.eval_langs
        if task.language_assumed:
            logger.warning("task %s: neither a card nor the recipe says its language: BM25 takes English", task.name)
        mark = f"sha256:{sha256_json([about.name, about.revision, language])}"
        reference = ModelReference(str(about.name), str(about.revision), location="", weights=mark, identity=mark)
        results.append(kept(Measurable(reference, task, "none"), root, partial(searched, model, task)))
    return [("BM25", results)]


def ceiling(
    cross_encoder: str, tasks: Sequence[Task], base_results: Sequence[Result], root: Path
) -> tuple[str, list[Result]]:
    """A label and the results of a cross-encoder that ranks the base's best hits anew.

    Raises:
        UserError: it is not a cross-encoder with one score.
    """
    reference = resolve_model(cross_encoder)
    loaded: list[CrossEncoder] = []

    def measured(task: Task, base: Result) -> Measured:
        loaded[:] = loaded or [load_reranker(reference.location, f"cross_encoder {cross_encoder}")]
        rankings = reranked(loaded[0], read_rankings(Key.of(base).folder(root) / "rankings.parquet"), task)
        qrels = task.qrels()
        return Measured(rankings, qrels, scores_of(rankings, qrels), {})

    results = []
    for task, base in zip(tasks, base_results, strict=True):
        mark = f"sha256:{sha256_json([base.identity, base.precision, reference.identity, RERANKED])}"
        both = ModelReference(f"{base.model} + {reference.name}", reference.revision, "", mark, mark)
        what = Measurable(both, task, base.precision, base.prompts, base.pooling)
        results.append(kept(what, root, partial(measured, task, base)))
    return f"base + {reference.name.rpartition('/')[2]}", results


def reranked(model: CrossEncoder, rankings: Rankings, task: Task) -> dict[str, dict[str, float]]:
    """Rankings whose best hits a cross-encoder has put in its own order."""
    best = {query: top(hits, RERANKED) for query, hits in rankings.items()}
    pairs = [(query, passage) for query, hits in best.items() for passage, _ in hits]
    queries, passages = task.queries(), task.passages(passage for _, passage in pairs)
    scores = model.predict([(queries[query], passages[passage]) for query, passage in pairs])
    found: dict[str, dict[str, float]] = {query: {} for query in rankings}
    for (query, passage), score in zip(pairs, scores.tolist(), strict=True):
        found[query][passage] = score
    for query, hits in rankings.items():
        least = min(found[query].values(), default=0.0)
        for rank, (passage, _) in enumerate(top(hits, len(hits))[RERANKED:], start=1):
            found[query][passage] = least - rank
    return found
