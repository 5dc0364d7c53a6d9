"""The vectors of texts on disk, each computed once.

A text's vector is found again by the model's identity, the prompt, the length that is read and the precision, in
whatever corpus the text stands: a larger corpus, another data set or a second run encodes only what is new.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache as kept
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from tqdm import tqdm

from builders.passages import Passages, Positions
from builders.retrieval.encoding import Encoder, Reading, Role, as_texts
from builders.retrieval.encoding_shards import encoding_plan
from builders.retrieval.hits import Hits, merged
from builders.retrieval.nearest import Vectors, id_order, nearest
from builders.retrieval.nearest_shards import found_in, searching_plan
from builders.retrieval.row_shards import by_range, complete, first_missing, is_shared, parts_of, plan_folder
from builders.retrieval.row_store import Keys, RowStore, keys_of
from foils.engine.config import EngineConfig
from foils.loading import json_object
from foils.provenance import sha256_json

ROWS = 50_000
"""Texts in a row that are sorted by length among each other: a shard, so that who encodes it changes no bit."""
SEARCHED = 1_000_000
"""Passages of a shard that is searched."""
BLOCK = 20_000


class Embedder(Encoder):
    """A model and its stored vectors.

    Args:
        reading: model, prompts, length and precision.
        cache: its folder `embeddings` keeps the vectors.
        engine: encodes more than one shard of texts; without it this process does.

    Raises:
        UserError: the model does not exist.
    """

    def __init__(self, reading: Reading, cache: Path, engine: EngineConfig | None = None) -> None:
        super().__init__(reading)
        self._cache, self._engine = cache, engine

    def folder(self, role: Role) -> Path:
        """Returns where the vectors of texts in a role lie; queries and passages share it if they are read alike."""
        return self._cache / "embeddings" / sha256_json(self.about(role))[:16]

    def embed(self, texts: Passages, role: Role, positions: Positions | None = None) -> Vectors:
        """Returns the vectors of texts, of length 1; those that are not stored yet are computed and stored.

        Longest texts of each range of rows first, so that a batch holds little padding and what does not fit in memory
        fails soon. Which batches there are depends on the texts alone, and rows are stored by whole batches: a run that
        was killed goes on with the very batches that were left, and so to the same vectors.

        Args:
            texts: passages, or queries in their form.
            role: decides the prompt.
            positions: of some of the texts; without them all.

        Raises:
            UserError: the model cannot be loaded, it gives a vector that is not a number, or the disk is full.
        """
        chosen = np.arange(len(texts)) if positions is None else positions
        keys, sizes = _keys(texts, chosen)
        store = RowStore(self.folder(role), self._width(role), self.about(role))
        label = f"embedding {'queries' if role == 'query' else 'passages'}"
        plan = plan_folder(self._cache, self.folder(role).name, keys, ROWS)
        groups = _missing(store, keys, sizes)
        if is_shared(plan, self._engine, len(groups)):
            make = partial(encoding_plan, plan, self, role, texts, [chosen[group] for group in groups])
            complete(store, plan, make, self._engine, label)
            groups = _missing(store, keys, sizes)  # some, if the store has lost rows since the plan was made
        if groups:
            total = sum(map(len, groups))
            with tqdm(total=total, desc=label, unit="text", dynamic_ncols=True, disable=None) as bar:
                for group in groups:
                    for part, vectors in self.encoded(texts, role, chosen[group]):
                        store.add(keys[group[part]], vectors)
                        bar.update(len(vectors))
        return Vectors(store.rows(), store.find(keys))

    def search(self, asking: Vectors, passages: Passages, answering: Vectors, k: int) -> Hits:
        """Returns each query's `k` nearest passages, ties broken by id; a large corpus is searched by shards."""
        ties = id_order(passages)
        if self._engine is None or not self._engine.runs_here or len(passages) <= SEARCHED:
            return nearest(asking, answering, ties, k)
        store = RowStore(self.folder("document"), self._width("document"), self.about("document"))
        keys, vectors = store.keys(answering.places), asking.take(np.arange(len(asking.places)))
        digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes() + np.ascontiguousarray(ties).tobytes())
        name = f"nearest-{k}-{self.folder('document').name}-{digest.hexdigest()[:16]}"
        plan = plan_folder(self._cache, name, keys, SEARCHED)
        make = partial(searching_plan, plan, store, vectors, keys, k)
        parts = parts_of(plan, lambda: make(ties, SEARCHED), self._engine, "searching")
        return merged(map(found_in, parts), ties, k, len(vectors))

    def _width(self, role: Role) -> int:
        """Returns how many numbers a vector has: as stored, so that a model that has nothing to do is not loaded."""
        stored = json_object(self.folder(role) / "about.json")
        if stored:
            return int(stored.get("width", 0))
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        return int(encode(["width"], show_progress_bar=False).shape[1])


def retriever(
    model: str, corpus: Passages, cache: Path, engine: EngineConfig | None = None
) -> Callable[[Sequence[str], int], list[list[str]]]:
    """Returns a function from query texts and `k` to the ids of each query's `k` nearest passages, ties broken by id.

    Args:
        model: any sentence-transformers model, see `foils.models.resolve_model`.
        corpus: the passages.
        cache: keeps the embeddings.
        engine: see `Embedder`.
    """

    @kept
    def embedded() -> tuple[Embedder, Vectors]:
        embedder = Embedder(Reading(model), cache, engine)
        return embedder, embedder.embed(corpus, "document")

    def retrieve(texts: Sequence[str], k: int) -> list[list[str]]:
        embedder, answering = embedded()
        asking = embedder.embed(as_texts([str(number) for number in range(len(texts))], texts), "query")
        hits = embedder.search(asking, corpus, answering, k)
        ids = corpus.ids_at(hits.positions)
        return [ids[start:end].to_pylist() for start, end in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)]

    return retrieve


def _missing(store: RowStore, keys: Keys, sizes: npt.NDArray[np.int64]) -> list[Positions]:
    """Returns what a store lacks, by range of rows, the longest of each first."""
    return [_longest_first(keys, sizes, group) for group in by_range(first_missing(store, keys), ROWS)]


def _longest_first(keys: Keys, sizes: npt.NDArray[np.int64], among: Positions) -> Positions:
    """Sorts texts, the longest first, ties broken by key: whatever order they came in.

    >>> keys = np.array([[7, 0], [5, 0], [6, 0]], np.uint64)
    >>> _longest_first(keys, np.array([4, 9, 4]), np.arange(3)).tolist()
    [1, 2, 0]
    """
    return among[np.lexsort((keys[among, 1], keys[among, 0], -sizes[among]))]


def _keys(texts: Passages, positions: Positions) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Keys `(n, 2)` and sizes in bytes `(n,)` of texts."""
    keys, sizes = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, len(positions), BLOCK):
        batch = texts.texts(positions[start : start + BLOCK])
        keys.append(keys_of(batch.to_pylist()))
        sizes.append(pc.binary_length(batch).to_numpy().astype(np.int64))
    return np.concatenate(keys), np.concatenate(sizes)
