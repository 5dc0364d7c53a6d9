"""Looks into a call store, and writes its answers to a file that can be passed on.

    python -m builders.calls show STORE
    python -m builders.calls export STORE FILE.parquet

An export holds each answer under the hash of its request, and no request: it can be passed on where the passages
cannot. A building recipe takes it with `llm.answers`. To move calls with their requests, copy the store's file.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from builders.llm.answers import export_answers
from builders.llm.store import CallStore
from foils.errors import UserError, run_entry

logger = logging.getLogger(__name__)


def show_calls(store: CallStore) -> Iterator[str]:
    """What a store holds, line by line: calls by model, tokens, seconds, how answers ended, failures by kind."""
    sums = (
        f"coalesce(sum(CASE WHEN json_valid(answer) THEN json_extract(answer, '$.{name}') END), 0)"
        for name in ("prompt_tokens", "completion_tokens", "seconds")
    )
    ((calls, read, written, seconds),) = store.rows(f"SELECT count(*), {', '.join(sums)} FROM calls")  # noqa: S608
    counted = "SELECT coalesce({0}, '(unknown)'), count(*) FROM calls GROUP BY 1 ORDER BY 1"
    yield f"calls     {calls:,}"
    for name, column in (
        ("model", "CASE WHEN json_valid(request) THEN json_extract(request, '$.model') END"),
        ("ended", "CASE WHEN json_valid(answer) THEN json_extract(answer, '$.finish_reason') END"),
    ):
        yield from (f"  {name}   {value}: {number:,}" for value, number in store.rows(counted.format(column)))
    yield f"tokens    {read:,} in, {written:,} out"
    yield f"seconds   {seconds:,.1f} (sum over calls)"
    failures = store.rows("SELECT problem, count(*) FROM failures GROUP BY 1 ORDER BY 2 DESC, 1")
    yield f"failures  {sum(number for _, number in failures):,}"
    yield from (f"  {number:>6,}  {problem}" for problem, number in failures)


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["show", "export"])
    parser.add_argument("store", type=Path, help="the call store, such as outputs/calls.sqlite")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.parquet", help="for export")
    arguments = parser.parse_args()
    if (arguments.command == "export") != (arguments.file is not None):
        raise UserError("wanted: show STORE, or export STORE FILE.parquet")
    if not arguments.store.is_file():
        raise UserError(f"call store {arguments.store}: no such file; name the --store of an earlier build")
    with CallStore(arguments.store, read_only=True) as store:
        if arguments.command == "show":
            print("\n".join(show_calls(store)))
        else:
            logger.info("%s: %d answers", arguments.file, export_answers(store, arguments.file))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
