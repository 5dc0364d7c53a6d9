"""The realism and hardness audit of a built data set, as a plain dict.

result, files = examine(folder)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.audit.judges import score
from builders.audit.pairs import distinct
from builders.corpus import sample
from builders.dataset.folder import cache_of, read_config
from builders.dataset.read import BECAME_NEGATIVE, PAIRS, DataSet
from builders.passages import Passages
from builders.realism import gaps
from builders.realism.hardness import describe, draw, figures, is_scored, margins
from builders.realism.query_log import distance, read_log
from builders.realism.separability import by_words, joined, telling_words
from builders.selection.stored import with_positives
from foils.models import resolve_model
from foils.texts import overlap

FIGURE = "figures/hardness.png"
SAMPLED, SEED = 2000, 42
"""The largest number of texts per side that are compared, and the seed of all samples."""
PREFERRED = ("cross-encoder", "dense", "bm25")
"""The stored scorers that hardness is measured by: the first of them, or of any others, that scored all kinds."""


def examine(
    folder: Path, score_with: str | None = None, query_log: Path | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Audits a data set.

    Args:
        folder: of a finished build.
        score_with: a cross-encoder that scores the negatives of all kinds now, in place of stored scores.
        query_log: a file of real queries that the data set's queries are compared with; see `query_log.read_log`.

    Returns:
        The result (manifest key `audit.realism`), and pictures by their path in the folder.

    Raises:
        UserError: the folder holds no data set, the model does not exist, or the query log cannot be read.
    """
    log = None if query_log is None else read_log(query_log, f"--query-log {query_log}")
    dataset = DataSet(folder)
    names = ("corpus", "train-queries", "train-qrels")
    corpus, queries, qrels = (read_config(folder, dataset.manifest, name) for name in names)
    passages, asked = Passages(corpus), with_positives(queries, qrels)
    hard, files = _hardness(dataset, passages, asked, score_with)
    result = {
        "settings": {"sampled": SAMPLED, "seed": SEED},
        "generated": _generated(dataset.table("generated"), passages, asked),
        "queries": _queries(passages, asked, log, dataset.language),
        "hardness": hard,
    }
    return result, files


def _generated(written: pa.Table | None, corpus: Passages, asked: pa.Table) -> dict[str, Any]:
    """Kind -> how its written negatives compare with the passages of the same queries."""
    if written is None:
        return {}
    # `QUERY/KINDn`, as `negatives.llm` names them.
    kinds = pc.replace_substring_regex(written["_id"], pattern=r"^.*/([^/]*?)\d+$", replacement=r"\1")
    place = pc.index_in(written["query-id"], value_set=asked["_id"])
    written = written.append_column("corpus-id", asked["corpus-id"].take(place))
    return {
        kind: _compared(written.filter(pc.equal(kinds, kind)), corpus) for kind in sorted(pc.unique(kinds).to_pylist())
    }


def _compared(written: pa.Table, corpus: Passages) -> dict[str, Any]:
    """One kind's figures; texts of queries that were dropped later count as repeats only.

    Args:
        written: `schema.GENERATED` of the kind, with `corpus-id`, the passage of the same query; null of dropped ones.
        corpus: the passages.
    """
    used = sample(written.filter(pc.is_valid(written["corpus-id"])), SAMPLED, SEED)
    texts, groups = used["text"].to_pylist(), used["corpus-id"].to_pylist()
    ids = pc.unique(used["corpus-id"])
    own, at = ids.to_pylist(), corpus.positions(ids)
    bodies, titled = corpus.bodies(at).to_pylist(), corpus.texts(at).to_pylist()
    counted = {
        "texts": written.num_rows,
        "sampled": len(texts),
        "passages": len(own),
        "exact_duplicates": gaps.exact_duplicates(written["text"]),
        "near_duplicates": gaps.near_duplicates(texts),
    }
    if not texts:
        return counted
    ours = list(zip(texts, groups, strict=True))
    plain = joined(ours, zip(bodies, own, strict=True))
    whole = None if bodies == titled else joined(ours, zip(titled, own, strict=True))
    return counted | {
        "without_titles": {"words": by_words(plain, SEED)},
        "with_titles": None if whole is None else {"words": by_words(whole, SEED)},
        "telling": telling_words(plain),
        "generated": {"words": gaps.lengths(texts)},
        "corpus": {"words": gaps.lengths(bodies)},
        "length_gap": gaps.length_gap(texts, bodies),
    }


def _queries(corpus: Passages, asked: pa.Table, log: list[str] | None, language: str) -> dict[str, Any]:
    """How long queries are, how much of them stands in their own passage, and how they differ from those of a log."""
    used = sample(asked, SAMPLED, SEED)
    texts, own = used["text"].to_pylist(), corpus.texts(corpus.positions(used["corpus-id"])).to_pylist()
    shares = [overlap(query, passage, language) for query, passage in zip(texts, own, strict=True)]
    quartiles = [round(float(value), 4) for value in np.percentile(shares or [0.0], [25, 50, 75])]
    found = {
        "sampled": len(texts),
        "overlap": dict(zip(("q1", "median", "q3"), quartiles, strict=True)),
        "words": gaps.lengths(texts),
    }
    if log is None:
        return found
    ids = {"_id": pa.array(log)}  # a log's queries have no ids: their texts are drawn by
    sampled = sample(pa.table(ids), SAMPLED, SEED)["_id"].to_pylist()
    pairs = list(zip(texts, used["corpus-id"].to_pylist(), strict=True))
    return found | {"log": distance(pairs, sampled, SEED)}


def _hardness(
    dataset: DataSet, corpus: Passages, asked: pa.Table, score_with: str | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The margins of each kind by the first scorer that scored all kinds."""
    fates, qrels = (read_config(dataset.folder, dataset.manifest, name) for name in ("fates", "train-qrels"))
    chosen = fates.filter(pc.starts_with(fates["fate"], BECAME_NEGATIVE)).select(["kind", *PAIRS.names])
    judged = qrels.filter(pc.is_in(qrels["query-id"], value_set=pc.unique(chosen["query-id"])))
    seen = []
    for scorer, scores in _scores(dataset, corpus, asked, distinct([chosen, judged]), score_with):
        seen.append(scorer)
        found = margins(chosen, qrels, scores)
        if is_scored(found):
            kinds = {kind: figures(values) for kind, values in found.items()}
            result = {"scorer": scorer, "kinds": kinds, "figure": FIGURE, "alt": describe(kinds, scorer)}
            return result, {FIGURE: draw(found, scorer)}
    have = ", ".join(sorted(seen)) or "none"
    return {
        "why_not": f"no scorer has scored the negatives of all kinds (scores by: {have}); name a cross-encoder with "
        "--score-with"
    }, {}


def _scores(
    dataset: DataSet, corpus: Passages, asked: pa.Table, pairs: pa.Table, score_with: str | None
) -> Iterator[tuple[str, pa.Table]]:
    """Scorers with their `schema.SCORES`: the cross-encoder that scores `PAIRS` now, or the stored ones."""
    if score_with is not None:
        written = dataset.table("generated")
        passages = corpus if written is None else corpus.and_generated(written)
        scores = score(pairs, asked, passages, score_with, cache_of(dataset.folder))
        yield resolve_model(score_with).name, scores
        return
    stored = sorted(name.removeprefix("scores-") for name in dataset.manifest["configs"] if name.startswith("scores-"))
    for scorer in dict.fromkeys([*PREFERRED, *stored]):
        if scorer in stored:
            yield scorer, read_config(dataset.folder, dataset.manifest, f"scores-{scorer}")
