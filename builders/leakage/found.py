"""What the guard found, and what follows: queries and passages to leave out, sets that were seen, a refusal."""

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
PASSAGES = ("positive", "corpus", "generated")
_EXAMPLES = 3


class Found(NamedTuple):
    """What training texts share with evaluation sets.

    Attributes:
        config: the tests and the policy.
        sets: the evaluation sets.
        hits: `overlap.HITS`, the rows of configuration `leakage`.
        totals: how many texts of each sort (`query`, `positive`, `corpus`, ...) were compared.
        queries: `queries.TABLE` of all queries that were compared.
    """

    config: LeakageConfig
    sets: Sequence[EvaluationSet]
    hits: pa.Table
    totals: Mapping[str, int]
    queries: pa.Table

    @property
    def queries_to_drop(self) -> pa.Array:
        """Ids of queries that the policy leaves out."""
        leaked, through = self._dropped_queries()
        return pa.concat_arrays([leaked["id"].combine_chunks(), through["id"].combine_chunks()])

    @property
    def passages_to_drop(self) -> pa.Array:
        """Ids of passages that the policy keeps from being a query's negative."""
        return self._dropped_passages()["id"].combine_chunks()

    @property
    def drops(self) -> pa.Table:
        """`schema.DROPS` of the queries and passages that the policy leaves out."""
        leaked, through = self._dropped_queries()
        passages = self._dropped_passages()
        rows = [_drops(leaked, "query"), _drops(through, "positive"), _drops(passages, "passage")]
        return pa.concat_tables(rows).combine_chunks()

    @property
    def training_datasets(self) -> list[str]:
        """Names of the evaluation sets that a model trained on this data is not zero-shot on.

        A set counts if, once the policy has dropped what it drops, a query or passage of the data set still stands in
        it, or if half of its relevant passages or more stand in the corpus, dropped or not: then the corpus is the
        set's own.
        """
        is_query = pc.equal(self.hits["what"], "query")
        gone_query = pc.and_(is_query, pc.is_in(self.hits["id"], value_set=self.queries_to_drop))
        gone_passage = pc.and_not(pc.is_in(self.hits["id"], value_set=self.passages_to_drop), is_query)
        seen = set(self.hits.filter(pc.invert(pc.or_(gone_query, gone_passage)))["evaluation-set"].to_pylist())
        inside = self.hits.filter((pc.field("what") == "corpus") & (pc.field("evaluation-text") == "passage"))
        for each in self.sets:
            relevant = inside.filter(pc.field("evaluation-set") == each.name)["evaluation-id"].unique()
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

    def forbid(self) -> None:
        """Refuses what leaked, as far as the policy holds for it; does nothing under `allow`.

        Raises:
            UserError: with counts, the first three and the remedy.
        """
        queries = self.leaked("query")
        passages = self.leaked(*PASSAGES) if self.config.passages == "drop" else HITS.empty_table()
        if self.config.policy == "allow" or not queries.num_rows + passages.num_rows:
            return
        counted = [f"{queries.num_rows} of {self.totals.get('query', 0)} queries"] if queries.num_rows else []
        counted += [f"{passages.num_rows} passages"] if passages.num_rows else []
        examples = pa.concat_tables([queries, passages]).slice(0, _EXAMPLES).to_pylist()
        raise UserError(
            f"leakage: {' and '.join(counted)} stand in evaluation sets, such as {'; '.join(map(_in_words, examples))}."
            " Leave them out (leakage.policy=drop when the data set is built), accept that no figure on these sets is "
            "zero-shot (allow), or take the sets out of leakage.against"
        )

    def and_hits(self, what: str, hits: pa.Table, total: int) -> "Found":
        """With texts that were compared later.

        Raises:
            UserError: the policy is `refuse` and something leaked that it holds for.
        """
        more = self._replace(hits=pa.concat_tables([self.hits, hits]), totals={**self.totals, what: total})
        if self.config.policy == "refuse":
            more.forbid()
        return more

    def and_negatives(self, negatives: Mapping[str, pa.Table]) -> "Found":
        """With rows for each kind's negatives, which stand among the passages that were compared already.

        Args:
            negatives: kind -> a table with `corpus-id`, the chosen negatives.
        """
        passages = self.hits.filter(pc.is_in(self.hits["what"], value_set=pa.array(PASSAGES[1:])))
        hits, totals = [self.hits], dict(self.totals)
        for kind, rows in negatives.items():
            chosen = rows["corpus-id"].unique()
            what = f"negative-{kind}"
            hits.append(renamed(passages.filter(pc.is_in(passages["id"], value_set=chosen)), what))
            totals[what] = len(chosen)
        return self._replace(hits=pa.concat_tables(hits), totals=totals)

    def _dropped_queries(self) -> tuple[pa.Table, pa.Table]:
        """`HITS` of queries that leaked, and of the positives of others, by the id of their query."""
        if self.config.policy != "drop":
            return HITS.empty_table(), HITS.empty_table()
        leaked = self.leaked("query")
        if self.config.passages != "drop":
            return leaked, HITS.empty_table()
        positives = self.leaked("positive")
        place = pc.index_in(self.queries["corpus-id"], value_set=positives["id"])
        is_through = pc.and_not(pc.is_valid(place), pc.is_in(self.queries["_id"], value_set=leaked["id"]))
        through = positives.take(place.filter(is_through))
        return leaked, through.set_column(1, HITS.field("id"), self.queries["_id"].filter(is_through))

    def _dropped_passages(self) -> pa.Table:
        """`HITS` of passages that no query may have as a negative, one for each."""
        is_dropped = self.config.policy == self.config.passages == "drop"
        return self.leaked(*PASSAGES) if is_dropped else HITS.empty_table()


def renamed(hits: pa.Table, what: str) -> pa.Table:
    """`HITS` of another sort of texts."""
    return hits.set_column(0, HITS.field("what"), pa.array([what] * hits.num_rows, pa.string()))


def _in_words(row: Mapping[str, Any]) -> str:
    """A row of `HITS` in words."""
    return (
        f"{row['what']} {row['id']!r} = {row['evaluation-text']} {row['evaluation-id']!r} of {row['evaluation-set']} "
        f"({row['test']}, {row['similarity']:.2f})"
    )


def _drops(hits: pa.Table, what: str) -> pa.Table:
    """`HITS`, one for each text, as `schema.DROPS`."""
    rows = [
        {
            "stage": STAGE,
            "id": hit["id"],
            "reason": f"{what}-in-{hit['evaluation-set']}",
            "detail": f"{hit['test']}: {hit['evaluation-text']} {hit['evaluation-id']} ({hit['similarity']:.2f})",
        }
        for hit in hits.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema.DROPS)
