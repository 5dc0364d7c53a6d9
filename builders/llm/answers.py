"""Answers by the hashes of their requests, without the requests: they can be passed on where the passages cannot.

Whoever has the corpus makes the same requests, and so finds their answers; see `llm.answers` in a building recipe.
"""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builders.llm.store import CallStore, answer_in
from foils.errors import UserError

ANSWERS = pa.schema([("call-key", pa.string()), ("answer", pa.string())])
ROWS = 1000
"""Calls in memory at once, and in a row group."""


def read_answers(file: Path) -> dict[str, dict[str, Any]]:
    """Answers by key.

    Raises:
        UserError: the file is missing, or it has another form.
    """
    try:
        rows = pq.read_table(file, columns=ANSWERS.names).cast(ANSWERS).to_pydict()
        answers = map(answer_in, rows["answer"])
        return dict(zip(rows["call-key"], answers, strict=True))
    except FileNotFoundError:
        raise UserError(f"llm.answers {file}: no such file; name one, or leave the key out") from None
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"llm.answers {file}: not a file of answers ({str(error).splitlines()[0]:.120}); make one with `python -m "
            "builders.calls export STORE FILE.parquet`"
        ) from None


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
        with partial.open("wb") as out, pq.ParquetWriter(out, ANSWERS, compression="zstd") as writer:
            while calls := list(islice(stored, ROWS)):
                keys, answers = zip(*calls, strict=True)
                # Where an answer came from may be nobody else's business.
                plain = [re.sub(r', "place": "(?:[^"\\\\]|\\\\.)*"', "", answer) for answer in answers]
                writer.write_table(pa.table([keys, plain], ANSWERS), row_group_size=ROWS)
                rows += len(calls)
        partial.replace(file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror or error}); name a file in another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return rows
