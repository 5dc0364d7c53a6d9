"""The parts of a plan: one file a shard, with a marker that is written last.

part-00012.parquet    what the stage made of shard 12
part-00012.json       its marker: a part without one, or with that of other rows or settings, does not count
failed-00012.txt      why it could not be made, until it is
tried-00012           while it is made: a byte for each worker of this run that began it
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from foils.engine.files import put
from foils.engine.plan import Plan
from foils.errors import UserError
from foils.provenance import sha256_file

Floats = npt.NDArray[np.float32]
_RECENT = 50  # markers that the rate is taken from


class Marker(Struct, frozen=True, forbid_unknown_fields=True):
    """What a part was made of, and what it is: hashes of rows and settings, its rows, bytes, SHA-256 and seconds."""

    input: str
    settings: str
    rows: int
    bytes: int
    sha256: str
    seconds: float


class State(NamedTuple):
    """The shards of a plan: `done`, `failed` with the reason, and `left`, which failed ones are among."""

    done: list[int]
    failed: dict[int, str]
    left: list[int]


def part_file(folder: Path, number: int) -> Path:
    """Returns where a shard's part lies."""
    return folder / f"part-{number:05}.parquet"


def failed_file(folder: Path, number: int) -> Path:
    """Returns where the reason lies why a shard has no part."""
    return folder / f"failed-{number:05}.txt"


def tried_file(folder: Path, number: int) -> Path:
    """Returns the file that counts the workers that began a shard and have not ended it."""
    return folder / f"tried-{number:05}"


def write_part(folder: Path, plan: Plan, number: int, table: pa.Table, seconds: float) -> None:
    """Writes a shard's part and then its marker.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    place = part_file(folder, number)
    made = place.with_suffix(".json")
    made.unlink(missing_ok=True)  # of an earlier part: it must not stand beside this one
    put(place, lambda path: pq.write_table(table, path, compression="lz4", use_dictionary=False))
    digest, size = sha256_file(place), place.stat().st_size
    marker = Marker(plan.input_of(number), plan.settings, table.num_rows, size, digest, round(seconds, 3))
    put(made, lambda path: path.write_bytes(msgspec.json.encode(marker)))
    failed_file(folder, number).unlink(missing_ok=True)


def marker_of(folder: Path, plan: Plan, number: int) -> Marker | None:
    """Returns a shard's marker; None where it is missing, broken, or of other rows or settings."""
    place = part_file(folder, number)
    try:
        marker = msgspec.json.decode(place.with_suffix(".json").read_bytes(), type=Marker)
        whole = place.stat().st_size == marker.bytes
    except (OSError, msgspec.DecodeError):
        return None
    return marker if whole and (marker.input, marker.settings) == (plan.input_of(number), plan.settings) else None


def state_of(folder: Path, plan: Plan, among: Iterable[int] | None = None) -> State:
    """Looks at the markers of a plan, or of some of its shards."""
    state = State([], {}, [])
    for number in range(len(plan.shards)) if among is None else among:
        if marker_of(folder, plan, number) is not None:
            state.done.append(number)
            continue
        state.left.append(number)
        if failed_file(folder, number).exists():
            lines = failed_file(folder, number).read_text("utf-8").strip().splitlines()
            state.failed[number] = lines[-1] if lines else "no reason is known"
    return state


def read_parts(folder: Path, plan: Plan) -> Iterator[pa.Table]:
    """Yields the parts in the order of shards; see `read_part`."""
    for number in range(len(plan.shards)):
        yield read_part(folder, plan, number)


def read_part(folder: Path, plan: Plan, number: int) -> pa.Table:
    """Reads a shard's part.

    Raises:
        UserError: it is not what its marker says.
    """
    return pq.read_table(checked_part(folder, plan, number))


def checked_part(folder: Path, plan: Plan, number: int) -> Path:
    """Returns where a shard's part lies.

    Raises:
        UserError: the part is not what its marker says.
    """
    marker, place = marker_of(folder, plan, number), part_file(folder, number)
    if marker is None or sha256_file(place) != marker.sha256:
        place.with_suffix(".json").unlink(missing_ok=True)
        raise UserError(f"{place}: not the part that was made; run the same command again to make it anew")
    return place


def vector_column(vectors: Floats) -> pa.Array:
    """Returns vectors `(n, dim)` as a column of a part."""
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vectors_in(column: pa.ChunkedArray) -> Floats:
    """Returns the vectors of a column, `(n, dim)`; they cannot be written to."""
    rows = column.combine_chunks()
    vectors: Floats = rows.flatten().to_numpy().reshape(len(rows), -1)
    return vectors


def summary(folder: Path, plan: Plan) -> str:
    """Says in lines what is done, failed and left, at which rate, and for how long, from the markers."""
    state = state_of(folder, plan)
    markers = (part_file(folder, number).with_suffix(".json") for number in state.done)
    times = sorted((marker.stat().st_mtime, marker) for marker in markers)[-_RECENT:]
    made = [msgspec.json.decode(marker.read_bytes(), type=Marker).seconds for _, marker in times]
    gaps = (later - earlier for (earlier, _), (later, _) in pairwise(times))
    spent = sum(map(min, gaps, made[1:]))  # nobody worked in a longer gap than the shard at its end took
    line = f"{folder}: {len(state.done)} of {len(plan.shards)} shards done, {len(state.failed)} failed, "
    line += f"{len(state.left)} left"
    if spent:
        rate = (len(times) - 1) / spent
        line += f"; {rate * 3600:.3g} an hour"
        line += f", about {len(state.left) / rate / 60:.3g} minutes to go" if state.left else ""
    return "\n".join([line, *(f"  shard {number} failed: {reason}" for number, reason in state.failed.items())])


def numbers_in(text: str, shards: int) -> list[int]:
    """Reads numbers and ranges of shards.

    Raises:
        UserError: the text has another form, or names a shard that is not there.

    >>> numbers_in("0-2,7", 8)
    [0, 1, 2, 7]
    """
    try:
        ranges = [[int(edge) for edge in part.split("-")] for part in text.split(",")]
        numbers = [number for edges in ranges for number in range(edges[0], edges[-1] + 1)]
    except ValueError:
        numbers = []
    if not numbers or max(numbers) >= shards or any(len(edges) > 2 for edges in ranges):  # noqa: PLR2004
        raise UserError(f"--shards {text}: wanted numbers and ranges such as 0-9,12, from 0 to {shards - 1}")
    return sorted({*numbers})


def as_ranges(numbers: list[int]) -> str:
    """Writes numbers as `numbers_in` reads them.

    >>> as_ranges([0, 1, 2, 7, 9, 10])
    '0-2,7,9-10'
    """
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ",".join(f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends, strict=True))
