"""Looks into a call store, and writes its answers to a file that can be passed on.

    python -m builders.calls show STORE
    python -m builders.calls export STORE FILE.parquet

An export holds each answer under the hash of its request, and no request: it can be passed on where the passages
cannot. A building recipe takes it with `llm.answers`. To move calls with their requests, copy the store's file.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from builders.llm.answers import ANSWERS
from builders.llm.store import CallStore
from foils.errors import UserError, run_entry

logger = logging.getLogger(__name__)
T = TypeVar("T")
ROWS = 1000
"""Calls in memory at once, and in a row group."""


class _Asked(msgspec.Struct):
    model: str = "(unknown)"


class _Answered(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    finish_reason: str = "(unknown)"


def export_answers(store: CallStore, file: Path) -> int:
    """Writes all answers to a Parquet file, sorted by key; equal stores give equal bytes. Returns how many.

    Raises:
        UserError: the file's name ends in something else, or it cannot be written.
    """
    if file.suffix != ".parquet":
        raise UserError(f"{file}: the name of an export must end in .parquet")
    partial, stored, rows = file.with_name(f"{file.name}.partial"), iter(store), 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(partial, ANSWERS, compression="zstd") as writer:
            while calls := list(islice(stored, ROWS)):
                columns = [[call.key for call in calls], [call.answer for call in calls]]
                writer.write_table(pa.table(columns, ANSWERS), row_group_size=ROWS)
                rows += len(calls)
        partial.replace(file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror or error}); name a file in another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return rows


def show_calls(store: CallStore) -> Iterator[str]:
    """What a store holds, line by line: calls by model, tokens, seconds, how answers ended, failures by kind."""
    models: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    tokens_in = tokens_out = 0
    seconds = 0.0
    for call in store:
        asked, answered = _decoded(call.request, _Asked()), _decoded(call.answer, _Answered())
        models[asked.model] += 1
        ends[answered.finish_reason] += 1
        tokens_in += answered.prompt_tokens or 0
        tokens_out += answered.completion_tokens or 0
        seconds += answered.seconds or 0.0
    yield f"calls     {models.total():,}"
    yield from (f"  model   {name}: {number:,}" for name, number in sorted(models.items()))
    yield from (f"  ended   {name}: {number:,}" for name, number in sorted(ends.items()))
    yield f"tokens    {tokens_in:,} in, {tokens_out:,} out"
    yield f"seconds   {seconds:,.1f} (sum over calls)"
    failures = store.failure_kinds()
    yield f"failures  {sum(failures.values()):,}"
    yield from (f"  {number:>6,}  {kind}" for kind, number in failures.items())


def _decoded(text: str, default: T) -> T:
    """A JSON object's known fields; all at their defaults if one of them is of another type."""
    try:
        return msgspec.json.decode(text, type=type(default))
    except msgspec.DecodeError:
        return default


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["show", "export"])
    parser.add_argument("store", type=Path, help="the call store, such as outputs/calls.sqlite")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.parquet", help="for export")
    arguments = parser.parse_args()
    if (arguments.command == "export") != (arguments.file is not None):
        raise UserError("wanted: show STORE, or export STORE FILE.parquet")
    with CallStore(arguments.store, read_only=True) as store:
        if arguments.command == "show":
            print("\n".join(show_calls(store)))
        else:
            logger.info("%s: %d answers", arguments.file, export_answers(store, arguments.file))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
