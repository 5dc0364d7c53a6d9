"""Files that are complete or absent, whatever is killed."""

import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name beside its place, to the disk, and renames it.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{token_hex(6)}")
    try:
        write(partial)
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
