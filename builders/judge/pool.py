"""The pool: what compared systems ranked best for each query of an exam, and pairs that show how far a judge errs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.audit.pairs import distinct, ids, shuffled, without
from builders.dataset.read import PAIRS, DataSet
from builders.exam.answered import table_of
from builders.hashing import keyed_hash
from foils.comparison import COMPARISON, read_comparison
from foils.errors import UserError
from foils.evidence import read_rankings
from foils.metrics import top

DEPTH = 10
"""Hits of each system and query."""


class Asked(NamedTuple):
    """What a judge is asked about, all of it `PAIRS`.

    Attributes:
        systems: the hits of each.
        qrels: the exam's judgements so far, `schema.QRELS`.
        groups: `pool`, the hits without a judgement; known positives (`positive`) and passages at random (`random`).
    """

    systems: list[pa.Table]
    qrels: pa.Table
    groups: dict[str, pa.Table]

    def judged(self, qrels: pa.Table) -> float:
        """judged@10 over all queries, mean over the systems."""
        judged = [hits.num_rows - without(hits, qrels).num_rows for hits in self.systems]
        return float(np.mean(judged)) / (DEPTH * len(self.qrels["query-id"].unique()))


def asked_about(dataset: DataSet, comparisons: Sequence[Path], sample: int, seed: int) -> Asked:
    """Gathers what a judge is asked about.

    Args:
        dataset: with the exam.
        comparisons: `comparison.json` files, or their folders.
        sample: known positives, at most, and as many relevant pairs whose queries get a passage at random.
        seed: of both draws.

    Raises:
        UserError: the data set has no exam, a comparison is not of it or lacks its rankings, or all hits are judged.
    """
    queries, qrels, corpus = (dataset.table(config) for config in ("queries", "default", "corpus"))
    if queries is None or qrels is None or corpus is None:
        raise UserError(f"data set {dataset.folder}: it has no exam; add [exam] to the building recipe and build again")
    queries = queries.filter(pc.is_in(queries["_id"], value_set=qrels["query-id"]))  # and not people's own beside it
    texts = dict(zip(queries["_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    files = dict.fromkeys(file.resolve() for each in comparisons for file in _rankings(each, texts, dataset.folder))
    systems = [table_of(_best(read_rankings(file))) for file in files]
    relevant = known = qrels.filter(pc.greater(qrels["score"], 0)).select(PAIRS.names)
    passages, said = corpus["_id"], dataset.table("judgements")
    if said is not None:  # one judge's verdicts do not measure another
        known = without(known, said.filter(pc.equal(said["of"], "pool")))
    positives = shuffled(known, "positives", seed).slice(0, sample)
    some = [*ids(shuffled(relevant, "positives", seed).slice(0, sample))]  # also where a judge found all answers
    places = (keyed_hash(seed, "judge", *pair) % len(passages) for pair in some)
    drawn = table_of((query, passages[at].as_py()) for (query, _), at in zip(some, places, strict=True))
    pool = without(distinct(systems), qrels).sort_by([(name, "ascending") for name in PAIRS.names])
    if not pool.num_rows:
        raise UserError(
            f"data set {dataset.folder}: each of the {DEPTH} best hits of {len(systems)} systems is judged; judge the "
            "comparison of further models, or compare on this data set"
        )
    gone = pool.filter(pc.invert(pc.is_in(pool["corpus-id"], value_set=passages)))
    if gone.num_rows:
        raise UserError(
            f"data set {dataset.folder}: {gone.num_rows} hits of the compared systems, such as "
            f"{gone['corpus-id'][0].as_py()!r}, are not among its passages: the comparison is of another revision of "
            "the corpus; compare on this data set, and judge that comparison"
        )
    return Asked(systems, qrels, {"pool": pool, "positive": positives, "random": without(distinct([drawn]), relevant)})


def _rankings(path: Path, queries: Mapping[str, str], folder: Path) -> list[Path]:
    """The rankings of the task of a comparison that asks these queries."""
    file = path if path.name == COMPARISON else path / COMPARISON
    comparison = read_comparison(file.parent)
    asked = {task.name: dict(zip(task.queries, task.texts, strict=True)) for task in comparison.queries}
    name = next((name for name, texts in asked.items() if texts.items() <= queries.items()), None)
    if name is None:
        raise UserError(
            f"{file}: none of its tasks ({', '.join(asked)}) asks the exam of {folder}; name a comparison on that exam"
        )
    found = [file.parent / ranked for ranked in comparison.rankings.get(name, {}).values()]
    if not found or not all(ranked.is_file() for ranked in found):
        raise UserError(
            f"{file}: the rankings of {name} are not where it says, or an earlier version wrote it; run eval.compare "
            "again, which trains and measures nothing anew"
        )
    return found


def _best(rankings: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    return ((query, passage) for query, hits in rankings.items() for passage, _ in top(hits, DEPTH))
