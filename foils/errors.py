"""The one exception that users see, and how an entry point ends because of it."""

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from traceback import walk_tb

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_OWN = ("builders", "cards", "eval", "foils", "training")


class UserError(Exception):
    """Something that the user gave is wrong; the text says the value, what was allowed and the remedy."""


def scrub(text: str) -> str:
    """A text without Hub tokens, whatever put them there.

    >>> scrub("Bearer hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    'Bearer hf_***'
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        token = os.environ.get(name, "").strip()
        if token:
            text = text.replace(token, "hf_***")
    return re.sub(r"hf_\w{16,}", "hf_***", text)


def run_entry(entry: Callable[[], None]) -> int:
    """Runs an entry point and returns its exit code: 0, 2 after a `UserError` (one line), 130 after Ctrl-C."""
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # `datasets` asks a server at each load, offline in vain
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "bm25s", "datasets", "huggingface_hub", "mteb", "sentence_transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if not sys.warnoptions:  # libraries warn of each other, which no user can mend
        warnings.simplefilter("ignore", FutureWarning)
    try:
        entry()
    except (UserError, OSError, ModuleNotFoundError) as error:
        said = _explained(error)
        if said is None:
            raise
        print(f"error: {' '.join(scrub(said).splitlines())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _explained(error: Exception) -> str | None:
    """What the user can do about an error; None for a mistake of the code."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        install = f"activate the environment of Foils (source .venv/bin/activate), or run: pip install {name}"
        return None if name in _OWN else f"{name} is not installed for {sys.executable}; {install}"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"{error.filename or 'the disk'}: {error.strerror}; make room, then run the same command again"
    *_, (frame, _) = walk_tb(error.__traceback__)
    is_mistake = isinstance(error, FileNotFoundError) and frame.f_code.co_name != "mkdir"
    if is_mistake or not isinstance(error, OSError) or error.filename is None:
        return None
    return f"{error.filename}: {error.strerror}; make room there, or name another place"
