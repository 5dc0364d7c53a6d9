"""Encoding a task's passages by shards, wherever they are made: a stage of `foils.engine`.

A shard is a block of passages as mteb hands it over, so its embeddings are those that the measuring process would make.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Struct

from eval.measure.encoder import Encoder, block_key
from eval.measure.encoding import Encoding, load
from foils.encode.batches import Floats
from foils.engine.config import EngineConfig
from foils.engine.folder import finished
from foils.engine.parts import read_part, vector_column, vectors_in
from foils.engine.plan import Places, Plan, plan_of
from foils.models import ModelReference, check_identity, resolve_model
from foils.provenance import sha256_json

if TYPE_CHECKING:  # workers need no mteb
    from eval.measure.tasks import Task

ROWS = 50_000
"""Passages of a block."""


class EncodeConfig(Struct, frozen=True):
    """How passages are encoded; the model is a path of the plan.

    Attributes:
        how: as the task is.
        prompt: put before each; without it, the model's own.
        identity: of the model.
    """

    how: Encoding
    prompt: str | None
    identity: str


class Encode:
    """Gives the embeddings of a shard's texts, in their order."""

    Config = EncodeConfig

    def __init__(self, config: EncodeConfig, places: Places) -> None:
        model = resolve_model(places.paths["model"])
        check_identity(places.paths["model"], model.identity, config.identity)
        self._prompt, how = config.prompt, config.how
        self._encoder = Encoder(load(model, how), how.precision, None, how.batch_tokens)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes a shard."""
        return pa.table({"row": vector_column(self._encoder.encode_document(table["text"].to_pylist(), self._prompt))})


class Spread(NamedTuple):
    """Has the passages of tasks encoded by an engine.

    Attributes:
        how: they are encoded.
        root: where results are kept; its folder `engine` holds the plans.
        engine: who encodes.
        plans: ends the use of the embeddings when it is closed.
    """

    how: Encoding
    root: Path
    engine: EngineConfig
    plans: ExitStack

    def __call__(self, encoder: Encoder, model: ModelReference, task: "Task", prompt: str | None) -> None:
        """Has a task's passages encoded, if they are more than a block, and gives the encoder their embeddings.

        Raises:
            UserError: as `foils.engine.folder.finished`.
        """
        keys = [block_key(texts, prompt) for texts in task.blocks(ROWS)]
        if len(keys) == 1 or encoder.made.keys() >= set(keys):
            return
        folder = self.root / "engine" / f"encoding-{sha256_json([model.identity, *self.how, *keys])[:16]}"
        make = partial(_plan, folder, EncodeConfig(self.how, prompt, model.identity), model, task)
        plan = self.plans.enter_context(finished(folder, make, self.engine, f"encoding {task.name}"))
        encoder.made |= {key: partial(_embeddings, folder, plan, number) for number, key in enumerate(keys)}


def _plan(folder: Path, config: EncodeConfig, model: ModelReference, task: "Task") -> Plan:
    """Writes a task's passages into a folder, a file for each block, and returns the plan that encodes them."""
    tables = (pa.table({"text": texts}) for texts in task.blocks(ROWS))
    paths = {"model": model.anywhere}
    return plan_of(folder, f"{__name__}:Encode", config, tables, model=model.identity, paths=paths)


def _embeddings(folder: Path, plan: Plan, number: int) -> Floats:
    return np.array(vectors_in(read_part(folder, plan, number)["row"]))  # as torch wants arrays that can be written to
