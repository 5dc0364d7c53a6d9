"""Answers by the hashes of their requests, without the requests: they can be passed on where the passages cannot.

Whoever has the corpus makes the same requests, and so finds their answers; see `llm.answers` in a building recipe.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foils.errors import UserError

ANSWERS = pa.schema([("call-key", pa.string()), ("answer", pa.string())])


def read_answers(file: Path) -> dict[str, dict[str, Any]]:
    """Answers by key.

    Raises:
        UserError: there is no such file, or it has another form.
    """
    try:
        rows = pq.read_table(file, columns=ANSWERS.names).cast(ANSWERS)
        return {
            key: _object(answer)
            for key, answer in zip(rows["call-key"].to_pylist(), rows["answer"].to_pylist(), strict=True)
        }
    except FileNotFoundError:
        raise UserError(f"llm.answers {file}: no such file; name one, or leave the key out") from None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"llm.answers {file}: not a file of answers ({str(error).splitlines()[0]:.120}); make one with `python -m "
            "builders.calls export STORE FILE.parquet`"
        ) from None


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"{text[:40]!r} is not a JSON object")
    return value
