"""The nearest passages by shards of the corpus, wherever they are searched: a stage of `foils.engine`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec import Struct

from builders.passages import Positions
from builders.retrieval.hits import Floats, Hits
from builders.retrieval.nearest import Vectors, nearest
from builders.retrieval.row_shards import key_array, keys_in
from builders.retrieval.row_store import Keys, RowStore
from foils.engine.plan import Places, Plan, plan_of
from foils.errors import UserError

QUERIES = "queries.npy"


class SearchConfig(Struct, frozen=True):
    """How many passages a query gets, and whose vectors they are: the width and words of their store."""

    k: int
    width: int
    about: dict[str, str]


class Search:
    """Gives the nearest of a shard's passages; their vectors are read from the store, which all workers see."""

    Config = SearchConfig

    def __init__(self, config: SearchConfig, places: Places) -> None:
        vectors = np.load(places.folder / QUERIES)
        self._k, self._queries = config.k, Vectors(vectors, np.arange(len(vectors)))
        self._store = RowStore(Path(places.paths["store"]), config.width, config.about)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Searches a shard."""
        there = self._store.find(keys_in(table["key"]))
        if (there < 0).any():
            raise UserError(f"{int((there < 0).sum())} vectors of the shard are not in the store; build again")
        hits = nearest(self._queries, Vectors(self._store.rows(), there), table["tie"].to_numpy(), self._k)
        return hits_table(hits, table["position"].to_numpy())


def searching_plan(  # noqa: PLR0917 - what a search takes
    folder: Path, store: RowStore, queries: Floats, keys: Keys, k: int, ties: Positions, rows: int
) -> Plan:
    """Writes passages' keys into a folder and returns the plan that searches them.

    Args:
        folder: the plan's.
        store: has the passages' vectors.
        queries: `(n_queries, dim)`.
        keys: of passages, `(n_passages, 2)`.
        k: hits per query.
        ties: as in `nearest`.
        rows: passages of a shard.
    """
    np.save(folder / QUERIES, queries)
    columns = {"position": np.arange(len(keys)), "tie": ties, "key": key_array(keys)}
    table, starts = pa.table(columns), range(0, len(keys), rows)
    config = SearchConfig(k, store.width, dict(store.about))
    paths, tables = {"store": str(store.folder.resolve())}, (table.slice(start, rows) for start in starts)
    return plan_of(folder, f"{__name__}:Search", config, tables, beside=[QUERIES], paths=paths)


def hits_table(hits: Hits, positions: Positions) -> pa.Table:
    """Returns hits as a part; `positions` says where the shard's passages stand in the corpus."""
    return pa.table({"query": hits.query_numbers, "position": positions[hits.positions], "score": hits.scores})


def found_in(table: pa.Table) -> tuple[Positions, Positions, Floats]:
    """Returns query numbers, positions and scores of a part."""
    query, position, score = (table[name].to_numpy() for name in ("query", "position", "score"))
    return query, position, score
