"""Looks into a call store, and carries calls from one to another as Parquet, so that they travel with a data set.

    python -m builders.calls show STORE
    python -m builders.calls export STORE FILE.parquet [--dataset FOLDER] [--answers-only]
    python -m builders.calls import STORE FILE.parquet

The same calls give the same bytes. An import never replaces an answer, and takes over only rows whose key is the hash
of their request.
"""

import argparse
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from builders.folder import MANIFEST, read_manifest
from builders.llm.answers import ANSWERS
from builders.llm.store import CallStore
from builders.llm.store_file import StoreNotWritableError
from builders.llm.store_format import Call, is_call
from foils.errors import UserError, run_entry

logger = logging.getLogger(__name__)
T = TypeVar("T")

SCHEMA = pa.schema(
    [("call-key", pa.string()), ("request", pa.string()), ("answer", pa.string()), ("stored-at", pa.string())]
)
ROWS = 1000
"""How many calls are in memory at once, and in a row group: part of what makes equal stores equal bytes."""

_NAMED = 20  # refused rows in the log


class Imported(NamedTuple):
    """What became of the rows of a file: new, known before, refused."""

    new: int
    known: int
    refused: int


class _Asked(msgspec.Struct):
    model: str = "(unknown)"


class _Answered(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    finish_reason: str = "(unknown)"


def export_calls(store: CallStore, file: Path, dataset: Path | None = None, *, answers_only: bool = False) -> int:
    """Writes calls to a Parquet file, sorted by key; returns how many.

    Args:
        store: where they are.
        file: replaced where it is there already, once the new one is complete.
        dataset: a data set's folder, for the calls that its generated passages rest on alone.
        answers_only: leaves the requests out, and with them the passages: see `builders.llm.answers`.

    Raises:
        UserError: the data set names no calls, the store lacks some of them, or the file cannot be written.
    """
    if file.suffix != ".parquet":
        raise UserError(f"{file}: the name of an export must end in .parquet")
    batches = _all(store) if dataset is None else _rested_on(store, dataset)
    partial, rows = file.with_name(f"{file.name}.partial"), 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(partial, ANSWERS if answers_only else SCHEMA, compression="zstd") as writer:
            for batch in batches:
                columns = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
                table = pa.table(columns, SCHEMA)
                writer.write_table(table.select(writer.schema.names), row_group_size=ROWS)
                rows += len(batch)
        partial.replace(file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror or error}); name a file in another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return rows


def import_calls(store: CallStore, file: Path) -> Imported:
    """Takes over the calls of a Parquet file that are not in the store yet.

    Raises:
        UserError: the file is no export of calls, or is damaged; what was read before is kept.
    """
    new = known = refused = read = 0
    for batch in _read(file):
        calls = []
        for row in zip(*(batch[name].to_pylist() for name in SCHEMA.names), strict=True):
            read += 1
            problem = _problem(*row)
            if problem is None:
                calls.append(Call(*row))
                continue
            refused += 1
            if refused <= _NAMED:
                logger.warning("%s: row %d, key %.70r: refused: %s", file, read, row[0], problem)
        added = store.add(calls)
        new, known = new + added, known + len(calls) - added
    return Imported(new, known, refused)


def show_calls(store: CallStore) -> Iterator[str]:
    """What a store holds, line by line: calls by model, tokens, seconds, how answers ended, failures by kind."""
    models: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    tokens_in = tokens_out = 0
    seconds = 0.0
    for batch in _all(store):
        for call in batch:
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


def _all(store: CallStore) -> Iterator[list[Call]]:
    batch = store.calls("", ROWS)
    while batch:
        yield batch
        batch = store.calls(batch[-1].key, ROWS)


def _rested_on(store: CallStore, dataset: Path) -> Iterator[list[Call]]:
    """The calls that the generated passages of a data set name."""
    keys = _named_keys(dataset)
    found = 0
    for start in range(0, len(keys), ROWS):
        batch = store.calls_of(keys[start : start + ROWS])
        found += len(batch)
        if batch:
            yield batch
    if not found:
        raise UserError(
            f"data set {dataset}: the store has none of its {len(keys)} calls; name the --store of its build"
        )
    if found < len(keys):
        logger.warning("data set %s: %d of its %d calls are not in the store", dataset, len(keys) - found, len(keys))


def _named_keys(dataset: Path) -> list[str]:
    if not dataset.is_dir():
        raise UserError(f"data set {dataset}: no such folder; name the --out of a build")
    manifest = read_manifest(dataset)
    if manifest is None:
        raise UserError(f"data set {dataset}: the folder is empty; name the --out of a build")
    generated = manifest["configs"].get("generated")
    if generated is None:
        raise UserError(
            f"data set {dataset}: it has no generated passages, and other rows do not name their calls; leave out "
            "--dataset to export the whole store"
        )
    keys: set[str] = set()
    for name in generated["files"]:
        try:
            keys.update(pq.read_table(dataset / name, columns=["call-key"])["call-key"].unique().to_pylist())
        except (pa.ArrowException, KeyError, OSError):
            raise UserError(
                f"data set {dataset}: {name} in it is not there or damaged ({MANIFEST} lists it); get the folder again"
            ) from None
    return sorted(keys - {None})


def _read(file: Path) -> Iterator[pa.RecordBatch]:
    """The rows of an export in batches, however large its row groups are."""
    try:
        with pq.ParquetFile(file) as parquet:
            if not set(SCHEMA) <= set(parquet.schema_arrow):
                raise UserError(
                    f"{file}: its columns are {', '.join(parquet.schema_arrow.names)}; an export of calls has "
                    f"{', '.join(SCHEMA.names)}, all texts; make it with `python -m builders.calls export`"
                )
            for batch in parquet.iter_batches(ROWS, columns=SCHEMA.names):
                batch.validate(full=True)
                yield batch
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; name one that `python -m builders.calls export` wrote") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file}: no Parquet file, or a damaged one ({str(error).splitlines()[0]:.120}); get it again, and import "
            "again: what was read so far is kept"
        ) from None


def _problem(key: object, request: object, answer: object, stored_at: object) -> str | None:
    """Why a row is not taken over; None if it is."""
    if not isinstance(key, str) or not isinstance(request, str) or not isinstance(answer, str):
        return "a column is empty"
    if not is_call(key, request, answer):
        return "its key is not the hash of its request, or its answer is no JSON object"
    if not isinstance(stored_at, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", stored_at):
        return "its stored-at is no time in UTC"
    return None


def _decoded(text: str, default: T) -> T:
    """A JSON object's known fields; all at their defaults if one of them is of another type."""
    try:
        return msgspec.json.decode(text, type=type(default))
    except msgspec.DecodeError:
        return default


def _open_to_read(path: Path) -> CallStore:
    """The store, repaired where that is needed and possible; also where nothing can be written."""
    if not path.exists():
        raise UserError(f"call store {path}: no such file; name the --store of an earlier build")
    try:
        return CallStore(path)
    except StoreNotWritableError:
        return CallStore(path, read_only=True)


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="show|export|import")
    for name, about in (
        ("show", "what a store holds"),
        ("export", "write calls to a Parquet file"),
        ("import", "take over the calls of a Parquet file"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("store", type=Path, help="the call store, such as outputs/calls.sqlite")
        if name != "show":
            command.add_argument("file", type=Path, metavar="FILE.parquet")
        if name == "export":
            command.add_argument(
                "--dataset",
                type=Path,
                metavar="FOLDER",
                help="only the calls that this data set rests on, as far as that is known: its configuration "
                "`generated` names the call of each generated passage; calls for its queries, and those whose answer "
                "was not used, are named nowhere and left out; default: all calls of the store",
            )
            command.add_argument(
                "--answers-only",
                action="store_true",
                help="leave the requests out, and with them the passages: for `llm.answers` in a building recipe",
            )
    arguments = parser.parse_args()
    if arguments.command == "show":
        with _open_to_read(arguments.store) as store:
            print("\n".join(show_calls(store)))
    elif arguments.command == "export":
        with _open_to_read(arguments.store) as store:
            rows = export_calls(store, arguments.file, arguments.dataset, answers_only=arguments.answers_only)
        logger.info("%s: %d calls", arguments.file, rows)
    else:
        with CallStore(arguments.store) as store:
            done = import_calls(store, arguments.file)
            logger.info("%s: %d new calls, %d known before, %d refused", arguments.store, *done)
        if done.refused:
            raise UserError(
                f"{arguments.file}: {done.refused} rows were refused (named above, {_NAMED} at most) and the others "
                "imported; get an export that nobody has edited"
            )


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
