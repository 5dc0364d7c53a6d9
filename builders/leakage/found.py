"""What the guard found, and what follows: queries and passages to leave out, sets that were seen, a refusal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from builders.corpus import drops_table
from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet
from builders.leakage.overlap import HITS, first_of_each
from foils.errors import UserError

STAGE = "leakage"
VERSION = 2
"""Of the tests, in the report."""
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

    def with_hits(self, what: str, hits: pa.Table, total: int) -> "Found":
        """With texts of another sort, which were compared later.

        Raises:
            UserError: the policy is `refuse` and something leaked that it holds for.
        """
        more = self._replace(hits=pa.concat_tables([self.hits, hits]), totals={**self.totals, what: total})
        if self.config.policy == "refuse":
            more.forbid()
        return more

    def with_negatives(self, negatives: Mapping[str, pa.Table]) -> "Found":
        """With rows for each kind's negatives, which stand among the passages that were compared already.

        Args:
            negatives: kind -> a table with `corpus-id`, the chosen negatives.
        """
        passages = self.hits.filter(pc.is_in(self.hits["what"], value_set=pa.array(PASSAGES[1:])))
        found = self
        for kind, rows in negatives.items():
            chosen = rows["corpus-id"].unique()
            what = f"negative-{kind}"
            hits = renamed(passages.filter(pc.is_in(passages["id"], value_set=chosen)), what)
            found = found.with_hits(what, hits, len(chosen))
        return found

    def leaked(self, *what: str) -> pa.Table:
        """`HITS` of some sorts of texts, one for each text, by the first test that found it."""
        return first_of_each(self.hits.filter(pc.is_in(self.hits["what"], value_set=pa.array(what))), ["id"])

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
        examples = [
            f"{row['what']} {row['id']!r} = {row['evaluation-text']} {row['evaluation-id']!r} of "
            f"{row['evaluation-set']} ({row['test']}, {row['similarity']:.2f})"
            for row in pa.concat_tables([queries, passages]).slice(0, _EXAMPLES).to_pylist()
        ]
        raise UserError(
            f"leakage: {' and '.join(counted)} stand in evaluation sets, such as {'; '.join(examples)}."
            " Leave them out (leakage.policy=drop when the data set is built), accept that no figure on these sets is "
            "zero-shot (allow), or take the sets out of leakage.against"
        )

    @property
    def queries_to_drop(self) -> pa.Array:
        """Ids of queries that the policy leaves out."""
        dropped = self._dropped()
        return pa.concat_tables([dropped["query"], dropped["positive"]])["id"].combine_chunks()

    @property
    def passages_to_drop(self) -> pa.Array:
        """Ids of passages that the policy keeps from being a query's negative."""
        return self._dropped()["passage"]["id"].combine_chunks()

    @property
    def drops(self) -> pa.Table:
        """`schema.DROPS` of the queries and passages that the policy leaves out."""
        rows = [(what, hit) for what, hits in self._dropped().items() for hit in hits.to_pylist()]
        return drops_table(
            STAGE,
            [
                (
                    hit["id"],
                    f"{what}-in-{hit['evaluation-set']}",
                    f"{hit['test']}: {hit['evaluation-text']} {hit['evaluation-id']} ({hit['similarity']:.2f})",
                )
                for what, hit in rows
            ],
        )

    def _dropped(self) -> dict[str, pa.Table]:
        """`HITS` of what the policy leaves out, by what leaked, one for each text.

        Those of `positive` have the id of the query, and are of queries that did not leak themselves.
        """
        query = positive = passage = HITS.empty_table()
        if self.config.policy == "drop":
            query = self.leaked("query")
            if self.config.passages == "drop":
                passage, positives = self.leaked(*PASSAGES), self.leaked("positive")
                place = pc.index_in(self.queries["corpus-id"], value_set=positives["id"])
                is_through = pc.and_not(pc.is_valid(place), pc.is_in(self.queries["_id"], value_set=query["id"]))
                positive = positives.take(place.filter(is_through))
                positive = positive.set_column(1, HITS.field("id"), self.queries["_id"].filter(is_through))
        return {"query": query, "positive": positive, "passage": passage}

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

    def summary(self) -> dict[str, Any]:
        """The manifest's `leakage`, and what the card is rendered from.

        Keys: `version`: of the tests; `policy`, `passages`; `tests`: with their thresholds; `ngram`: words in a run;
        `sets`: name, revision, queries and passages of each; `counts`: for each set and sort of training text the
        texts compared, those found by each test and by `any`; `dropped`: queries and passages; `training_datasets`:
        the sets that the data is not zero-shot for.
        """
        return {
            "version": VERSION,
            "policy": self.config.policy,
            "passages": self.config.passages,
            "tests": {"exact": 1.0, "ngram": self.config.ngram_share},
            "ngram": self.config.ngram,
            "sets": [
                {
                    "name": each.name,
                    "revision": each.revision,
                    "queries": each.queries.num_rows,
                    "passages": each.passages.num_rows,
                }
                for each in self.sets
            ],
            "counts": [self._counts(each.name, what) for each in self.sets for what in self.totals],
            "dropped": {"queries": len(self.queries_to_drop), "passages": len(self.passages_to_drop)},
            "training_datasets": self.training_datasets,
        }

    def _counts(self, name: str, what: str) -> dict[str, Any]:
        """How many training texts of a sort stand in a set, by test."""
        hits = self.hits.filter((pc.field("evaluation-set") == name) & (pc.field("what") == what))
        by_test = {test: len(hits.filter(pc.field("test") == test)["id"].unique()) for test in ("exact", "ngram")}
        found, total = len(hits["id"].unique()), self.totals[what]
        share = round(found / total, 6) if total else 0.0
        return {"set": name, "what": what, "texts": total, **by_test, "any": found, "share": share}


def renamed(hits: pa.Table, what: str) -> pa.Table:
    """`HITS` of another sort of texts."""
    return hits.set_column(0, HITS.field("what"), pa.array([what] * hits.num_rows, pa.string()))
