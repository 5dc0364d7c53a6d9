"""Output folders that are complete or absent: written beside their place, then renamed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foils.errors import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing a folder; the lock goes with the process, however that ends.

    Raises:
        UserError: another process is writing it.
    """
    file = folder.with_name(f"{folder.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = not os.path.samestat(os.fstat(lock.fileno()), file.stat())
        except (BlockingIOError, FileNotFoundError):  # its holder deletes the file as it gives the lock back
            is_held = True
        if is_held:
            raise UserError(
                f"{folder}: another process is writing it; wait until it is done or end it, or name another folder "
                "with --out"
            )
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def recover(folder: Path) -> None:
    """Puts back what a killed process had just moved out of its place."""
    outdated = _outdated(folder)
    if outdated.is_dir() and not folder.exists():
        outdated.rename(folder)


def partial_folder(folder: Path) -> Path:
    """An empty folder beside `folder`, to write into."""
    recover(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, folder: Path) -> None:
    """Renames a finished folder to its place; what stood there goes only then."""
    outdated = _outdated(folder)
    shutil.rmtree(outdated, ignore_errors=True)
    if folder.exists():
        folder.rename(outdated)
    partial.rename(folder)
    shutil.rmtree(outdated, ignore_errors=True)


def _outdated(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.outdated")
