"""Encoding texts by shards, wherever they are made: a stage of `foils.engine`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec import Struct, structs

from builders.passages import Passages, Positions
from builders.retrieval.encoding import Encoder, Reading, Role, as_texts
from builders.retrieval.row_shards import rows_table
from builders.retrieval.row_store import keys_of
from foils.engine.plan import Places, Plan, plan_of
from foils.models import check_identity


class EncodeConfig(Struct, frozen=True):
    """How texts are read; the model is a path of the plan.

    Attributes:
        reading: without the model.
        role: decides the prompt.
        identity: of the model.
    """

    reading: Reading
    role: Role
    identity: str


class Encode:
    """Gives the vectors of a shard's texts, which come with the longest first, under their keys."""

    Config = EncodeConfig

    def __init__(self, config: EncodeConfig, places: Places) -> None:
        self._role = config.role
        self._encoder = Encoder(structs.replace(config.reading, model=places.paths["model"]))
        check_identity(places.paths["model"], self._encoder.reference.identity, config.identity)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes a shard."""
        texts = as_texts(table["_id"], table["text"])
        vectors = [rows for _, rows in self._encoder.encoded(texts, self._role, np.arange(len(texts)))]
        return rows_table(keys_of(table["text"].to_pylist()), np.concatenate(vectors))


def encoding_plan(folder: Path, encoder: Encoder, role: Role, texts: Passages, groups: Sequence[Positions]) -> Plan:
    """Writes groups of texts into a folder, one a shard, and returns the plan that encodes them."""
    tables = (pa.table({"_id": texts.ids_at(group), "text": texts.texts(group)}) for group in groups)
    identity = encoder.reference.identity
    config = EncodeConfig(structs.replace(encoder.reading, model=None), role, identity)
    paths = {"model": encoder.reference.anywhere}
    return plan_of(folder, f"{__name__}:Encode", config, tables, model=identity, paths=paths)
