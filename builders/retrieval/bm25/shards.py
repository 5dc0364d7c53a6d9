"""BM25 over shards of a corpus, with the figures of the whole: hits and scores are those of one index, to the bit.

First every shard counts its words, which are kept, and the counts are added up. Then every shard is indexed from its
words with these figures and searched, and the best hits of all are merged: two stages of `foils.engine`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from builders import schema
from builders.passages import Passages, Positions
from builders.retrieval.bm25.index import Figures, figures_of, index_key, kept_words
from builders.retrieval.bm25.search import Bm25Index
from builders.retrieval.encoding import as_texts
from builders.retrieval.hits import Floats, Hits, merged
from builders.retrieval.nearest import id_order
from builders.retrieval.row_shards import parts_of
from foils.engine.config import EngineConfig
from foils.engine.files import put
from foils.engine.plan import Places, Plan, make_plan
from foils.errors import UserError

ROWS = 1_000_000
"""Passages of a shard."""
FEW = 1000
"""Queries that are searched in this process, shard by shard: to start workers would take longer."""
_QUICKLY: dict[str, Any] = {"compression": "none", "use_dictionary": False, "row_group_size": 100_000}
QUERIES, FIGURES = "queries.parquet", "figures.parquet"


class CountConfig(Struct, frozen=True):
    """The name of the whole index, and the language of the passages."""

    name: str
    language: str


class Count:
    """Gives how many of a shard's passages hold each word, and in a row without a word how many words there are.

    The words themselves are kept where the shard's index will be: to find them takes longer than all else.
    """

    Config = CountConfig

    def __init__(self, config: CountConfig, places: Places) -> None:
        self._config, self._folder = config, Path(places.paths["indexes"])

    def __call__(self, table: pa.Table) -> pa.Table:
        """Counts a shard."""
        place = self._folder / key_of(self._config.name, table["position"][0].as_py())
        return to_counts(figures_of(Passages(table.drop_columns("position")), self._config.language, place))


class SearchConfig(Struct, frozen=True):
    """As `CountConfig`; and how many hits a query gets, and how many passages the whole corpus has."""

    name: str
    language: str
    k: int
    passages: int


class Search:
    """Gives the best of a shard's passages, and in rows marked `given` the scores that were asked about."""

    Config = SearchConfig

    def __init__(self, config: SearchConfig, places: Places) -> None:
        self._config, self._folder = config, Path(places.paths["indexes"])
        self._queries = pq.read_table(places.folder / QUERIES)
        self._figures = from_counts(pq.read_table(places.folder / FIGURES), config.passages)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Indexes a shard, unless that was done, and searches it.

        Raises:
            UserError: there is neither an index nor words.
        """
        start = table["position"][0].as_py()
        key = key_of(self._config.name, start)
        if not _is_there(self._folder / key):
            raise UserError(
                f"{self._folder / key}: missing; put that folder where all workers see it, then run it again"
            )
        index = Bm25Index(Passages(table), self._config.language, self._folder, self._figures, key)
        return searched(index, start, self._queries, self._config.k)


class ShardedIndex(Bm25Index):
    """A corpus that is searched by shards, in the place of a `Bm25Index`.

    Args:
        passages: what is searched.
        language: see `Bm25Index`.
        cache: keeps indexes and plans.
        engine: counts and searches.

    Raises:
        UserError: as `foils.engine.run.finish`; the cache cannot be written.
    """

    def __init__(self, passages: Passages, language: str, cache: Path, engine: EngineConfig) -> None:
        self._passages, self._code, self._engine = passages, language, engine
        self._indexes, self._plans = cache / "bm25", cache / "engine"
        self._starts = range(0, len(passages), ROWS)
        self._name = corpus_name(passages, language)
        self._ties = id_order(passages)
        figures = self._indexes / f"{self._name}-figures.parquet"
        if not (figures.exists() and all(_is_there(self._indexes / key_of(self._name, at)) for at in self._starts)):
            parts = parts_of(self._plans / f"{self._name}-words", self._counting, engine, "BM25 words")
            table = added_up(parts)
            put(figures, partial(pq.write_table, table))
        self._figures = from_counts(pq.read_table(figures), len(passages))

    def search_arrow(self, texts: pa.Array | pa.ChunkedArray, k: int, at: Positions | None = None) -> Hits:
        """Returns the best `k` passages of each query; see `Bm25Index`."""
        at = np.full(len(texts), -1, np.int64) if at is None else np.asarray(at, np.int64)
        k = max(min(k, len(self._passages)), 1)
        queries = pa.table({"text": texts, "at": at})
        if len(texts) <= FEW:
            parts: Iterable[pa.Table] = (self._here(start, queries, k) for start in self._starts)
        else:
            asked = index_key(as_texts(texts, texts), f"{k}-{hashlib.sha256(at.tobytes()).hexdigest()}")
            folder = self._plans / f"{self._name}-{asked[:16]}"
            parts = parts_of(folder, partial(self._searching, folder, queries, k), self._engine, "bm25")
        given = np.full(len(texts), np.nan, np.float32)
        hits = merged((_taken(part, given) for part in parts), self._ties, k, len(texts))
        return hits._replace(given=given)

    def _here(self, start: int, queries: pa.Table, k: int) -> pa.Table:
        shard = Passages(self._passages.table.slice(start, ROWS))
        key = key_of(self._name, start)
        return searched(Bm25Index(shard, self._code, self._indexes, self._figures, key), start, queries, k)

    def _counting(self) -> Plan:
        folder = self._plans / f"{self._name}-words"
        self._indexes.mkdir(parents=True, exist_ok=True)
        config, names = CountConfig(self._name, self._code), corpus_files(folder, self._passages)
        return make_plan(folder, f"{__name__}:Count", config, names, paths=self._paths)

    @property
    def _paths(self) -> dict[str, str]:
        return {"indexes": str(self._indexes.resolve())}

    def _searching(self, folder: Path, queries: pa.Table, k: int) -> Plan:
        pq.write_table(queries, folder / QUERIES)
        pq.write_table(to_counts(self._figures), folder / FIGURES)
        config = SearchConfig(self._name, self._code, k, len(self._passages))
        names, beside = corpus_files(folder, self._passages, ("_id",)), [QUERIES, FIGURES]
        return make_plan(folder, f"{__name__}:Search", config, names, beside=beside, paths=self._paths)


def key_of(name: str, start: int) -> str:
    """Returns the name of a shard's index: the whole's, and where the shard begins."""
    return f"{name}-{start}"


def _is_there(place: Path) -> bool:
    return place.is_dir() or kept_words(place).is_dir()


def corpus_name(passages: Passages, language: str) -> str:
    """Returns what the folder with a corpus's shards is called."""
    return f"bm25-{index_key(passages, language)[:16]}-{ROWS}"


def corpus_files(folder: Path, passages: Passages, columns: Sequence[str] = tuple(schema.CORPUS.names)) -> list[str]:
    """Writes columns and positions of a corpus's shards into a plan's folder, and returns the files' names."""
    names = []
    for number, start in enumerate(range(0, len(passages), ROWS)):
        names.append(f"input-{number:05}.parquet")
        part = passages.table.select(columns).slice(start, ROWS)
        table = part.append_column("position", pa.array(np.arange(start, start + part.num_rows)))
        pq.write_table(table, folder / names[-1], **_QUICKLY)
    return names


def searched(index: Bm25Index, start: int, queries: pa.Table, k: int) -> pa.Table:
    """Searches a shard, whose passages begin at `start`; in rows marked `given` are scores that were asked about."""
    at = queries["at"].to_numpy() - start
    hits = index.search_arrow(queries["text"], k, np.where((at >= 0) & (at < len(index)), at, -1))
    asked = np.flatnonzero(~np.isnan(hits.given))
    columns = {
        "query": np.concatenate([hits.query_numbers, asked]),
        "position": np.concatenate([hits.positions, at[asked]]) + start,
        "score": np.concatenate([hits.scores, hits.given[asked]]),
        "given": np.arange(len(hits.positions) + len(asked)) >= len(hits.positions),
    }
    return pa.table(columns)


def _taken(part: pa.Table, given: Floats) -> tuple[Positions, Positions, Floats]:
    """Returns the hits of a part, and puts the scores that were asked about into `given`."""
    query, position, score, marked = (column.to_numpy() for column in part.columns)
    given[query[marked]] = score[marked]
    return query[~marked], position[~marked], score[~marked]


def to_counts(figures: Figures) -> pa.Table:
    """Returns figures as a table; the row without a word has the number of words in all."""
    words = pa.concat_arrays([figures.words.cast(pa.string()), pa.nulls(1, pa.string())])
    return pa.table({"word": words, "holding": np.append(figures.holding, figures.length)})


def added_up(parts: Iterable[pa.Table]) -> pa.Table:
    """Adds up the counts of shards; words in the order of their bytes."""
    total = pa.table({"word": pa.array([], pa.string()), "holding": pa.array([], pa.int64())})
    for part in parts:
        joined = pa.concat_tables([total, part]).group_by("word", use_threads=False).aggregate([("holding", "sum")])
        total = joined.select(["word", "holding_sum"]).rename_columns(["word", "holding"])
    return total.sort_by("word")


def from_counts(counts: pa.Table, passages: int) -> Figures:
    """Returns the figures that `to_counts` wrote."""
    is_total = pc.is_null(counts["word"])
    words = counts.filter(pc.invert(is_total))
    length = int(pc.sum(counts.filter(is_total)["holding"]).as_py())
    return Figures(words["word"].combine_chunks(), words["holding"].to_numpy(), passages, length)
