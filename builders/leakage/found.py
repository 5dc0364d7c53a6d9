"""What the guard found: the ids to leave out, the ledger's rows, the evaluation sets that were seen, the report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet
from builders.leakage.overlap import HITS, TESTS
from foils.errors import UserError

STAGE = "leakage"
SAME_CORPUS = 0.5
"""From this share of its relevant passages on, an evaluation set's corpus counts as the training corpus itself."""
_CORPUS = ("corpus", "generated")
_NO_IDS = pa.array([], pa.string())
_EXAMPLES = 3


class Found(NamedTuple):
    """What training texts share with evaluation sets.

    Attributes:
        config: the tests and the policy.
        sets: the evaluation sets.
        hits: `overlap.HITS`, the rows of configuration `leakage`.
        totals: how many texts of each sort (`query`, `positive`, `corpus`, ...) were compared.
        queries_to_drop: ids; empty but for policy `drop`.
        passages_to_drop: ids that no query may have as a negative; empty but for policy `drop` with `passages = drop`.
        drops: `schema.DROPS` of both.
    """

    config: LeakageConfig
    sets: Sequence[EvaluationSet]
    hits: pa.Table
    totals: Mapping[str, int]
    queries_to_drop: pa.Array = _NO_IDS
    passages_to_drop: pa.Array = _NO_IDS
    drops: pa.Table = schema.DROPS.empty_table()

    @property
    def training_datasets(self) -> list[str]:
        """Names of the evaluation sets that a model trained on this data is not zero-shot on.

        A set counts if, once the policy has dropped what it drops, a query or passage of the data set still stands in
        it, or if half of its relevant passages or more stand in the corpus, dropped or not: then the corpus is the
        set's own.
        """
        kept = self.hits.filter(pc.invert(self._dropped()))
        seen = set(kept["evaluation-set"].to_pylist())
        inside = self.hits.filter(
            pc.and_(_is(self.hits, "what", "corpus"), _is(self.hits, "evaluation-text", "passage"))
        )
        for each in self.sets:
            relevant = inside.filter(_is(inside, "evaluation-set", each.name))["evaluation-id"].unique()
            if each.passages.num_rows and len(relevant) >= SAME_CORPUS * each.passages.num_rows:
                seen.add(each.name)
        return sorted(seen)

    def leaked(self, *what: str) -> pa.Table:
        """`HITS` of some sorts of texts, one for each text, by the first test of `TESTS` that found it."""
        rows = self.hits.filter(pc.is_in(self.hits["what"], value_set=pa.array(what, pa.string())))
        order = pc.index_in(rows["test"], value_set=pa.array(TESTS))
        rows = rows.append_column("order", order).append_column("at", pa.array(range(rows.num_rows), pa.int64()))
        first = rows.sort_by([("order", "ascending"), ("at", "ascending")])
        first = first.group_by("id", use_threads=False).aggregate([("at", "first")])
        kept = pc.is_in(rows["at"], value_set=first["at_first"].combine_chunks())
        return rows.filter(kept).select(HITS.names)

    def forbidden_passages(self) -> pa.Table:
        """`HITS` of passages for which the policy holds, one for each."""
        kinds = [what for what in self.totals if what != "query"]
        return self.leaked(*kinds) if self.config.passages == "drop" else HITS.empty_table()

    def forbid(self) -> None:
        """Refuses what leaked, as far as the policy holds for it; does nothing under `allow`.

        Raises:
            UserError: with counts, the first three and the remedy.
        """
        asked, barred = self.leaked("query"), self.forbidden_passages()
        if self.config.policy == "allow" or not asked.num_rows + barred.num_rows:
            return
        told = [f"{asked.num_rows} of {self.totals.get('query', 0)} queries"] if asked.num_rows else []
        told += [f"{barred.num_rows} passages"] if barred.num_rows else []
        examples = [*asked.slice(0, _EXAMPLES).to_pylist(), *barred.slice(0, _EXAMPLES).to_pylist()][:_EXAMPLES]
        raise UserError(
            f"leakage: {' and '.join(told)} stand in evaluation sets, such as {'; '.join(map(_told, examples))}. Leave "
            "them out (leakage.policy=drop when the data set is built), accept that no figure on these sets is "
            "zero-shot (allow), or take the sets out of leakage.against"
        )

    def with_policy(self, queries: pa.Table) -> "Found":
        """What the policy says of it.

        Args:
            queries: `queries.TABLE`.

        Raises:
            UserError: the policy is `refuse` and something leaked that it holds for.
        """
        if self.config.policy == "refuse":
            self.forbid()
        if self.config.policy != "drop":
            return self
        asked = self.leaked("query")
        dropped, rows = asked["id"].combine_chunks(), [_ledger(asked, "query")]
        if self.config.passages == "drop":
            answering = self.leaked("positive")
            through = queries.filter(pc.is_in(queries["corpus-id"], value_set=answering["id"].combine_chunks()))
            through = through.filter(pc.invert(pc.is_in(through["_id"], value_set=dropped)))
            places = pc.index_in(through["corpus-id"], value_set=answering["id"].combine_chunks())
            moved = answering.take(places).set_column(1, HITS.field("id"), through["_id"])
            dropped, rows = _joined(dropped, moved["id"]), [*rows, _ledger(moved, "positive")]
        barred = self.forbidden_passages()
        rows.append(_ledger(barred, "passage"))
        return self._replace(
            queries_to_drop=dropped,
            passages_to_drop=barred["id"].combine_chunks(),
            drops=pa.concat_tables(rows).combine_chunks(),
        )

    def and_hits(self, what: str, hits: pa.Table, total: int) -> "Found":
        """With passages that were compared later.

        Raises:
            UserError: as `with_policy`.
        """
        more = self._replace(hits=pa.concat_tables([self.hits, hits]), totals={**self.totals, what: total})
        if self.config.policy == "refuse":
            more.forbid()
        if self.config.policy != "drop" or self.config.passages != "drop":
            return more
        barred = more.leaked(what)
        return more._replace(
            passages_to_drop=_joined(self.passages_to_drop, barred["id"]),
            drops=pa.concat_tables([self.drops, _ledger(barred, "passage")]).combine_chunks(),
        )

    def and_negatives(self, negatives: Mapping[str, pa.Table]) -> "Found":
        """With rows for each kind's negatives, which stand among the passages that were compared already.

        Args:
            negatives: kind -> a table with `corpus-id`, the chosen negatives.
        """
        passages = self.hits.filter(pc.is_in(self.hits["what"], value_set=pa.array(_CORPUS)))
        hits, totals = [self.hits], dict(self.totals)
        for kind, rows in negatives.items():
            chosen = rows["corpus-id"].unique()
            of_kind = passages.filter(pc.is_in(passages["id"], value_set=chosen))
            name = f"negative-{kind}"
            hits.append(of_kind.set_column(0, HITS.field("what"), pa.array([name] * of_kind.num_rows, pa.string())))
            totals[name] = len(chosen)
        return self._replace(hits=pa.concat_tables(hits), totals=totals)

    def _dropped(self) -> pa.ChunkedArray:
        """Which hits are of texts that the policy keeps out of the training rows."""
        gone = pc.and_(_is(self.hits, "what", "query"), pc.is_in(self.hits["id"], value_set=self.queries_to_drop))
        is_passage = pc.invert(_is(self.hits, "what", "query"))
        return pc.or_(gone, pc.and_(is_passage, pc.is_in(self.hits["id"], value_set=self.passages_to_drop)))


def _told(row: Mapping[str, Any]) -> str:
    """A row of `HITS` in words."""
    return (
        f"{row['what']} {row['id']!r} = {row['evaluation-text']} {row['evaluation-id']!r} of {row['evaluation-set']} "
        f"({row['test']}, {row['similarity']:.2f})"
    )


def _ledger(hits: pa.Table, what: str) -> pa.Table:
    """`HITS`, one for each text, as `schema.DROPS`."""
    rows = hits.to_pydict()
    details = [
        f"{test}: {side} {evaluation_id} ({similarity:.2f})"
        for test, side, evaluation_id, similarity in zip(
            rows["test"], rows["evaluation-text"], rows["evaluation-id"], rows["similarity"], strict=True
        )
    ]
    reasons = [f"{what}-in-{name}" for name in rows["evaluation-set"]]
    columns = {"stage": [STAGE] * len(details), "id": rows["id"], "reason": reasons, "detail": details}
    return pa.table(columns, schema.DROPS)


def _is(rows: pa.Table, column: str, value: str) -> pa.ChunkedArray:
    return pc.equal(rows[column], value)


def _joined(first: pa.Array, second: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([first, second.combine_chunks()])
