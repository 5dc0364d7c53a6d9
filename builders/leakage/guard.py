"""The guard: before a data set is built, what of its queries and passages stands in evaluation sets, and what follows.

guard = Guard(config)                          # before the LLM is paid: loads and indexes the evaluation sets
guard.check_corpus(passages)                   # before the LLM is paid too: refuses the corpus where the policy says so
found = guard.check(queries, passages)         # before mining; refuses, or says what to leave out
found = guard.and_generated(found, generated)  # after mining: passages that the LLM wrote
found = found.and_negatives({"bm25": rows})    # after selection: the report's rows for each kind's negatives
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from builders.leakage.config import LeakageConfig
from builders.leakage.evaluation_sets import EvaluationSet, load_sets
from builders.leakage.found import Found, renamed
from builders.leakage.overlap import HITS, Overlap
from builders.passages import Passages

ROWS = 10_000
_NO_QUERIES = pa.table({"_id": pa.array([], pa.string()), "corpus-id": pa.array([], pa.string())})


class Guard:
    """Evaluation sets, loaded and indexed once.

    Args:
        config: which they are, and the policy.
        sets: the sets, where they are loaded already.

    Raises:
        UserError: a set cannot be loaded.
    """

    def __init__(self, config: LeakageConfig, sets: Sequence[EvaluationSet] | None = None) -> None:
        self._config = config
        self.sets = load_sets(config.against) if sets is None else list(sets)
        self._overlap = Overlap(self.sets, config) if self.sets else None
        self._corpus: pa.Table | None = None

    def check_corpus(self, passages: Passages) -> None:
        """Compares the corpus alone where that may end the build, before anything is paid for.

        Raises:
            UserError: the policy is `refuse` and holds for passages, and one of them leaked.
        """
        if self.sets and self._config.policy == "refuse" and self._config.passages == "drop":
            self._corpus = self.hits("corpus", _texts(passages), len(passages))
            Found(self._config, self.sets, self._corpus, {"corpus": len(passages)}, _NO_QUERIES).forbid()

    def check(self, queries: pa.Table, passages: Passages) -> Found:
        """Compares queries and the whole corpus, since any passage of it may become a negative.

        Args:
            queries: `queries.TABLE`: with the positives' ids.
            passages: the corpus.

        Raises:
            UserError: the policy is `refuse` and something leaked that it holds for.
        """
        leaked = self.hits("query", iter([(queries["_id"], queries["text"])]), queries.num_rows)
        corpus = self.hits("corpus", _texts(passages), len(passages)) if self._corpus is None else self._corpus
        positives = queries["corpus-id"].unique()
        answering = renamed(corpus.filter(pc.is_in(corpus["id"], value_set=positives)), "positive")
        totals = {"query": queries.num_rows, "positive": len(positives)}
        found = Found(self._config, self.sets, pa.concat_tables([leaked, answering]), totals, queries)
        return found.and_hits("corpus", corpus, len(passages))

    def and_generated(self, found: Found, generated: pa.Table) -> Found:
        """What was found, and what of generated negatives (`schema.GENERATED`) stands in evaluation sets.

        Such a passage was not copied from the corpus; the LLM may have met the evaluation set itself.

        Raises:
            UserError: as `check`.
        """
        hits = self.hits("generated", iter([(generated["_id"], generated["text"])]), generated.num_rows)
        return found.and_hits("generated", hits, generated.num_rows)

    def hits(self, what: str, texts: Iterator[tuple[pa.ChunkedArray, pa.ChunkedArray]], total: int) -> pa.Table:
        """`HITS` of training texts, batch by batch.

        Args:
            what: `query`, or a kind of passage.
            texts: their ids and themselves.
            total: how many they are, for the bar.
        """
        found = [HITS.empty_table()]
        if self._overlap is None:
            return found[0]
        with tqdm(total=total, desc=f"leakage: {what}", unit="text", unit_scale=True, disable=total < ROWS) as bar:
            for ids, bodies in texts:
                for start in range(0, len(ids), ROWS):
                    rows = slice(start, start + ROWS)
                    found.append(self._overlap.hits(what, _whole(ids[rows]), _whole(bodies[rows])))
                    bar.update(len(ids[rows]))
        return pa.concat_tables(found)


def _texts(passages: Passages) -> Iterator[tuple[pa.ChunkedArray, pa.Array]]:
    start = 0
    for batch in passages.batches(ROWS):
        yield passages.ids[start : start + len(batch)], batch
        start += len(batch)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
