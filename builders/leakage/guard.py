"""The guard: before a data set is built, what of its queries and passages stands in evaluation sets, and what follows.

guard = Guard(config)                           # before the LLM is paid: loads and indexes the evaluation sets
guard.check_corpus(passages)                    # before the LLM is paid too: may refuse the corpus
found = guard.check(queries, passages)          # before mining; refuses, or says what to leave out
found = guard.with_generated(found, generated)  # after mining: passages that the LLM wrote
found = found.with_negatives({"bm25": rows})    # after selection: the report's rows for each kind's negatives
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet, load_sets
from builders.leakage.found import Found, renamed
from builders.leakage.overlap import HITS, Overlap
from builders.passages import Passages
from builders.queries import TABLE

ROWS = 10_000


class Guard:
    """Evaluation sets, loaded and indexed once, and what one corpus shares with them.

    Args:
        config: which they are, and the policy.
        sets: the sets, where they are loaded already.

    Raises:
        UserError: a set cannot be loaded.
    """

    def __init__(self, config: LeakageConfig, sets: Sequence[EvaluationSet] | None = None) -> None:
        self._config = config
        self.sets = load_sets(config.against) if sets is None else list(sets)
        self._overlap = Overlap(self.sets, config)
        self._corpus: pa.Table | None = None

    def check_corpus(self, passages: Passages) -> None:
        """Compares the corpus alone where that may end the build, before anything is paid for.

        Raises:
            UserError: the policy is `refuse` and holds for passages, and one of them leaked.
        """
        if self.sets and self._config.policy == "refuse" and self._config.passages == "drop":
            hits, totals = self._corpus_hits(passages), {"corpus": len(passages)}
            Found(self._config, self.sets, hits, totals, TABLE.empty_table()).forbid()

    def check(self, queries: pa.Table, passages: Passages) -> Found:
        """Compares queries and the whole corpus, since any passage of it may become a negative.

        Args:
            queries: `queries.TABLE`: with the positives' ids.
            passages: the corpus.

        Raises:
            UserError: the policy is `refuse` and something leaked that it holds for.
        """
        leaked = self._table_hits("query", queries)
        corpus = self._corpus_hits(passages)
        positives = queries["corpus-id"].unique()
        answering = renamed(corpus.filter(pc.is_in(corpus["id"], value_set=positives)), "positive")
        totals = {"query": queries.num_rows, "positive": len(positives)}
        found = Found(self._config, self.sets, pa.concat_tables([leaked, answering]), totals, queries)
        return found.with_hits("corpus", corpus, len(passages))

    def with_generated(self, found: Found, generated: pa.Table) -> Found:
        """What was found, and what of generated negatives (`schema.GENERATED`) stands in evaluation sets.

        Such a passage was not copied from the corpus; the LLM may have met the evaluation set itself.

        Raises:
            UserError: as `check`.
        """
        return found.with_hits("generated", self._table_hits("generated", generated), generated.num_rows)

    def _corpus_hits(self, passages: Passages) -> pa.Table:
        if self._corpus is None:
            self._corpus = self._hits("corpus", passages.ids, passages.batches(ROWS))
        return self._corpus

    def _table_hits(self, what: str, table: pa.Table) -> pa.Table:
        batches = table.select(["text"]).to_batches(max_chunksize=ROWS)
        return self._hits(what, table["_id"], (batch["text"] for batch in batches))

    def _hits(self, what: str, ids: pa.ChunkedArray, batches: Iterable[pa.Array]) -> pa.Table:
        """`HITS` of training texts, batch by batch, in the order of their ids."""
        found, start = [HITS.empty_table()], 0
        with tqdm(
            total=len(ids), desc=f"leakage: {what}", unit="text", unit_scale=True, disable=len(ids) < ROWS
        ) as bar:
            for texts in batches:
                found.append(self._overlap.hits(what, ids.slice(start, len(texts)).combine_chunks(), texts))
                start += len(texts)
                bar.update(len(texts))
        return pa.concat_tables(found)
