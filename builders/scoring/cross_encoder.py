"""Scores of any pairs by a cross-encoder: stored, in batches across queries, in the fastest lane that is allowed."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.passages import Passages
from builders.scoring.agreement import Agreement, check_agreement, compare, sampled
from builders.scoring.config import CrossEncoderConfig
from builders.scoring.lanes import lane_name
from builders.scoring.processes import check_processes, fill_side_by_side
from builders.scoring.scorer import Pairs, Scorer
from foils.errors import UserError
from foils.models import resolve_model

if TYPE_CHECKING:  # the miners import this module
    from builders.negatives.material import Material


class Scored(NamedTuple):
    """`table`: `schema.SCORES`. `agreement`: how the lane compares with fp32; None for fp32 itself."""

    table: pa.Table
    agreement: Agreement | None


def score_pairs(
    pairs: pa.Table, queries: pa.Table, passages: Passages, material: "Material", config: CrossEncoderConfig
) -> pa.Table:
    """Scores pairs; see `score_and_check`, of which this is the table alone."""
    return score_and_check(pairs, queries, passages, material, config).table


def score_and_check(
    pairs: pa.Table, queries: pa.Table, passages: Passages, material: "Material", config: CrossEncoderConfig
) -> Scored:
    """Scores pairs with the model's own activation, as `CrossEncoder.predict` does.

    Scores (for one label usually within 0 and 1) are rounded to 6 digits, so that noise in the last bits of a sum
    cannot reorder passages. Equal texts are scored once; what was scored before, by whatever build, is not scored
    again. A lane other than fp32 first shows on a sample that it ranks as fp32 does.

    Args:
        pairs: `query-id`, `corpus-id`.
        queries: `_id`, `text`; at least those of the pairs.
        passages: at least those of the pairs, generated ones too.
        material: for its cache and seed.
        config: model and lane.

    Returns:
        The scores, one row a pair, in their order.

    Raises:
        UserError: the model cannot be loaded or gives more than one score, a lane's package is missing, a lane ranks
            otherwise than fp32, a process failed, or the cache cannot be written.
    """
    model = resolve_model(config.model or "")
    processes = check_processes(config.processes)
    lane = lane_name(config, model)
    located = _located(pairs, queries, passages)
    agreement = _agreement(located, queries, material, config, lane) if lane != "fp32" and len(located) else None
    if processes > 1 and Scorer(config, lane, material.cache).missing(located):
        fill_side_by_side(located, config, lane, material.cache, processes)
    found = Scorer(config, lane, material.cache).scores(located)
    columns = {name: pairs[name] for name in ("query-id", "corpus-id")}
    return Scored(pa.table({**columns, "score": found}, schema.SCORES), agreement)


def _agreement(
    pairs: Pairs, queries: pa.Table, material: "Material", config: CrossEncoderConfig, lane: str
) -> Agreement:
    """The lane beside fp32 on a sample, whose scores are stored like all others."""
    sample = pairs.at(sampled(queries["_id"].to_pylist(), pairs.query_positions, material.seed))
    scores, reference = (Scorer(config, name, material.cache).scores(sample) for name in (lane, "fp32"))
    found = compare(lane, scores, reference, sample.query_positions)
    check_agreement(found)
    return found


def _located(pairs: pa.Table, queries: pa.Table, passages: Passages) -> Pairs:
    asked = np.asarray(pc.fill_null(pc.index_in(pairs["query-id"], queries["_id"]), -1).to_numpy(), np.int64)
    answering = passages.positions(pairs["corpus-id"])
    for name, positions in (("query-id", asked), ("corpus-id", answering)):
        if len(positions) and positions.min() < 0:
            unknown = pairs[name][int(positions.argmin())].as_py()
            raise UserError(
                f"pairs to score: {name} {unknown!r} is not among the {'queries' if name == 'query-id' else 'passages'}"
                "; give the rows that the pairs were made from"
            )
    return Pairs(queries["text"], passages, asked, answering)
