"""Selection: from stored candidates and scores to training rows, by published rules. Pure.

All kinds keep the same queries, so that a comparison of kinds compares nothing else. Every candidate's outcome is
recorded.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.passages import take
from builders.selection.choice import Queue
from builders.selection.config import NO_NEGATIVES, Wanted, check_selection
from builders.selection.draw import Draw, draw, outcomes
from builders.selection.frame import Frame, Inputs, read
from builders.selection.mixes import is_mix, parts_of
from builders.selection.rules import OUTCOMES, Judged, judge, relabelled
from builders.spool import spooled

STAGE = "selection"
ROWS = 5000  # written at once: their texts are in memory


class Selection(NamedTuple):
    """The training-ready rows, and what became of everything else.

    Attributes:
        queries: `(n_rows,)` ids of the queries that stay, in their order.
        rows: kind -> `schema.training(...)`; row i of each is of query i.
        qrels: `schema.QRELS`: the known positives and those that relabelling found.
        fates: `schema.FATES`: every candidate of every kind; of mixes, what they take.
        drops: `schema.DROPS`: queries that left, with the kind that could not serve them.
        summary: kind -> outcome -> how many candidates.
        mixes: mix -> part -> how many negatives it took of it; a cap on uses may bend the shares.
    """

    queries: pa.Array
    rows: dict[str, pa.Table]
    qrels: pa.Table
    fates: pa.Table
    drops: pa.Table
    summary: dict[str, dict[str, int]]
    mixes: dict[str, dict[str, int]]


def select(inputs: Inputs, wanted: Wanted) -> Selection:
    """Takes each query's negatives, by the rules, for every kind.

    The result depends neither on the order of candidates, scores and judgements nor on how they are cut into batches.

    Args:
        inputs: candidates, scores, judgements and texts.
        wanted: kinds, number, seed and rules.

    Raises:
        UserError: the rules contradict each other or look at scores that are not there, or an id has no text.
    """
    kinds = wanted.drawn_kinds
    check_selection(wanted.config, kinds)
    rules = {kind: wanted.config.rules_for(kind) for kind in kinds}
    known, pools, scored = read(inputs)
    pools = {kind: pools[wanted.source_of(kind)] for kind in kinds if not is_mix(kind)}
    sources = {kind: inputs.candidates[wanted.source_of(kind)] for kind in pools}
    frame = relabelled(known, pools, scored, rules)
    judged = {kind: judge(frame, known, kind, pool, scored, rules[kind]) for kind, pool in pools.items()}
    result, judged = draw(frame, judged, inputs.passages, wanted, rules)
    codes = {kind: outcomes(found, result.kinds[kind], result, rules[kind].max_uses) for kind, found in judged.items()}
    fates = [_fates(kind, sources[kind], judged[kind].pool.row, codes[kind]) for kind in judged]
    fates += [_fates_of_mix(kind, sources, judged, result) for kind in filter(is_mix, kinds)]
    kept = np.flatnonzero(result.keep)
    columns = {kind: 0 if kind == NO_NEGATIVES else wanted.per_query for kind in wanted.kinds}
    rows = {kind: _rows(inputs, frame, result, kind, kept, columns[kind]) for kind in wanted.kinds}
    return Selection(
        queries=inputs.queries["_id"].combine_chunks().take(pa.array(kept)),
        rows=rows,
        qrels=_qrels(inputs, frame, known),
        fates=pa.concat_tables([schema.FATES.empty_table(), *fates]),
        drops=_drops(inputs.queries, result, wanted.per_query),
        summary={kind: _counts(found) for kind, found in codes.items()},
        mixes={kind: _taken_of_parts(kind, result) for kind in filter(is_mix, kinds)},
    )


def chosen_by_kind(fates: pa.Table) -> dict[str, pa.Table]:
    """Returns the rows of `schema.FATES` of those candidates that became negatives, by kind."""
    chosen = fates.filter(pc.starts_with(fates["fate"], "negative_"))
    return {kind: chosen.filter(pc.equal(chosen["kind"], kind)) for kind in pc.unique(chosen["kind"]).to_pylist()}


def _fates(kind: str, candidates: pa.Table, row: npt.NDArray[np.int64], codes: npt.NDArray[np.int16]) -> pa.Table:
    """A kind's candidates in their table's own order, with their outcomes."""
    order = np.argsort(row)
    rows = candidates.select(["query-id", "corpus-id"]).take(pa.array(row[order]))
    return _outcome_table(kind, rows, codes[order])


def _became(result: Draw, kind: str) -> tuple[Queue, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The candidates that a kind's rows hold, the column of each, and the part of a mix that it comes from."""
    drawn = result.kinds[kind]
    taken = drawn.queue.at(drawn.places)
    became = np.flatnonzero(result.keep[taken.query])
    return taken.at(became), taken.place_in_query()[became] + 1, drawn.part[drawn.places][became]


def _taken_of_parts(kind: str, result: Draw) -> dict[str, int]:
    part = _became(result, kind)[2]
    return {name: int((part == place).sum()) for place, name in enumerate(parts_of(kind))}


def _fates_of_mix(kind: str, sources: Mapping[str, pa.Table], judged: Mapping[str, Judged], result: Draw) -> pa.Table:
    """The candidates that a mix takes."""
    taken, number, part = _became(result, kind)
    tables = []
    for place, name in enumerate(parts_of(kind)):
        mine = part == place
        pool_row = judged[name].pool.row[taken.source[mine]]
        rows = sources[name].select(["query-id", "corpus-id"]).take(pa.array(pool_row))
        tables.append(_outcome_table(kind, rows, -number[mine].astype(np.int16)))
    return pa.concat_tables(tables)


def _outcome_table(kind: str, rows: pa.Table, codes: npt.NDArray[np.int16]) -> pa.Table:
    most = max(0, -int(codes.min(initial=0)))
    names = pa.array([*OUTCOMES, *(f"negative_{number}" for number in range(most, 0, -1))])
    words = names.take(pa.array(np.where(codes < 0, len(names) + codes, codes)))
    kinds = pa.array([kind]).take(pa.array(np.zeros(len(codes), np.int8)))
    return pa.table([kinds, rows["query-id"], rows["corpus-id"], words], schema=schema.FATES)


def _counts(codes: npt.NDArray[np.int16]) -> dict[str, int]:
    """Counts outcomes; all columns together as `chosen`."""
    found, sizes = np.unique(codes[codes > 0], return_counts=True)
    counts = dict(zip([OUTCOMES[code] for code in found], sizes.tolist(), strict=True))
    return {"chosen": int((codes < 0).sum()), **counts}


def _rows(inputs: Inputs, frame: Frame, result: Draw, kind: str, kept: npt.NDArray[np.int64], columns: int) -> pa.Table:
    """A kind's training rows; their texts are taken `ROWS` rows at a time."""
    chosen = np.empty((len(result.keep), columns), np.int64)
    if columns:
        taken, number, _ = _became(result, kind)
        chosen[taken.query, number - 1] = taken.passage
    form = schema.training(columns)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(kept), ROWS):
            queries = kept[start : start + ROWS]
            codes = np.column_stack([frame.positive[queries], chosen[queries]])
            texts = [inputs.passages.texts(frame.positions[column]) for column in codes.T]
            asked = take(inputs.queries["text"], queries)
            yield pa.record_batch([asked, *texts], schema=form)

    return spooled(form, batches())


def _qrels(inputs: Inputs, frame: Frame, known: Frame) -> pa.Table:
    """The judgements that were known, and behind them what relabelling added."""
    query, code = np.divmod(np.setdiff1d(frame.positives, known.positives), len(frame.positions))
    if not len(query):
        return inputs.qrels
    found = [
        inputs.queries["_id"].take(pa.array(query)).combine_chunks(),
        inputs.passages.ids_at(frame.positions[code]),
        pa.array(np.ones(len(query)), pa.int32()),
    ]
    return pa.concat_tables([inputs.qrels, pa.table(found, schema=schema.QRELS)])


def _drops(queries: pa.Table, result: Draw, per_query: int) -> pa.Table:
    """The queries that left, once for each kind that had too few."""
    tables = [schema.DROPS.empty_table()]
    for kind, drawn in result.kinds.items():
        short = np.flatnonzero(~result.keep & (drawn.counts < per_query))
        ids = queries["_id"].take(pa.array(short)).combine_chunks()
        details = [f"{kind}: {count} of {per_query}" for count in drawn.counts[short].tolist()]
        stage, reason = ([word] * len(short) for word in (STAGE, "too-few-negatives"))
        tables.append(pa.table([stage, ids, reason, details], schema=schema.DROPS))
    return pa.concat_tables(tables)
