"""Archives, such as BEIR's, read as the folders that are in them."""

import shutil
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from foils.errors import UserError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ERRORS = (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, RuntimeError)


def unpacked(path: Path, what: str) -> Path:
    """The folder in an archive, which goes with the process; any other path as it is.

    Raises:
        UserError: `what` cannot be unpacked.
    """
    if not path.is_file() or not path.name.lower().endswith(ENDINGS):
        return path
    into = Path(_scratch(path.absolute(), path.stat().st_mtime_ns).name)
    try:
        if not any(into.iterdir()):
            shutil.unpack_archive(path, into, filter=None if path.suffix.lower() == ".zip" else "data")
    except _ERRORS as error:  # a password is a RuntimeError
        raise UserError(f"{what} {path}: cannot be unpacked ({error}); unpack it and name the folder") from None
    found = [each for each in into.iterdir() if not each.name.startswith((".", "__"))]
    return found[0] if len(found) == 1 and found[0].is_dir() else into


@cache
def _scratch(path: Path, changed: int) -> "TemporaryDirectory[str]":  # noqa: ARG001 - a changed archive is another one
    return TemporaryDirectory(prefix="foils-")
