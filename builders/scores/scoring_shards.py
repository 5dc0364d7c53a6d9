"""Scoring pairs by shards, wherever they are made: a stage of `foils.engine`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec import Struct

from builders.retrieval.row_shards import rows_table
from builders.scores.config import CrossEncoderConfig
from builders.scores.lanes import load_lane
from builders.scores.pairs import pair_keys
from foils.engine.plan import Places, Plan, plan_of
from foils.errors import UserError
from foils.models import ModelReference, check_identity, resolve_model


class ScoreConfig(Struct, frozen=True):
    """How pairs are scored; the model is a path of the plan.

    Attributes:
        max_length: tokens of a pair that are read.
        lane: one of `lanes.lane_name`'s.
        identity: of the model.
        precision: that the lane `openvino` computes in; empty for others, which are named after theirs.
    """

    max_length: int
    lane: str
    identity: str
    precision: str


class Score:
    """Gives the scores of a shard's pairs under their keys; `place` keeps the batches of the whole block."""

    Config = ScoreConfig

    def __init__(self, config: ScoreConfig, places: Places) -> None:
        model = places.paths["model"]
        reference = resolve_model(model)
        check_identity(model, reference.identity, config.identity)
        if config.precision != _precision(config.lane):
            raise UserError(
                f"openvino: the plan's scores are computed in {config.precision}, and this machine computes in "
                f"{_precision(config.lane)}; take workers with the same processors, or set "
                'negatives.cross-encoder.precision = "fp32"'
            )
        settings = CrossEncoderConfig(model=model, max_length=config.max_length)
        self._lane = load_lane(settings, reference, config.lane, Path(places.paths["converted"]))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Scores a shard."""
        texts = list(zip(table["query"].to_pylist(), table["passage"].to_pylist(), strict=True))
        batches, scores = table["place"].to_numpy() // self._lane.at_once, np.empty(len(texts), np.float32)
        for batch in np.unique(batches):
            rows = np.flatnonzero(batches == batch)
            scores[rows] = self._lane.score([texts[row] for row in rows])
        return rows_table(pair_keys(texts), scores[:, None])


def scoring_plan(
    folder: Path, config: CrossEncoderConfig, model: ModelReference, lane: tuple[str, Path], shards: Iterable[pa.Table]
) -> Plan:
    """Writes pairs into a folder and returns the plan that scores them.

    Args:
        folder: the plan's.
        config: names the model.
        model: the same, pinned.
        lane: its name, and the folder of a converted model.
        shards: `query`, `passage`, `place`.
    """
    settings = ScoreConfig(config.max_length, lane[0], model.identity, _precision(lane[0]))
    paths = {"model": model.anywhere, "converted": str(lane[1].resolve())}
    packages = ["openvino"] if lane[0] == "openvino" else []
    return plan_of(folder, f"{__name__}:Score", settings, shards, packages=packages, model=model.identity, paths=paths)


def _precision(lane: str) -> str:
    if lane != "openvino":
        return ""
    from foils.encode.runtimes import openvino_precision

    return openvino_precision()
