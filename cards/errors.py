"""The one exception that users see, and how an entry point ends because of it."""

import logging
import sys
from collections.abc import Callable

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something that the user gave is wrong; the text says the value, what was allowed and the remedy."""


def run_entry(entry: Callable[[], None]) -> int:
    """Runs an entry point and returns its exit code: 0, 2 after a `UserError` (one line), 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "bm25s", "datasets", "huggingface_hub", "sentence_transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        entry()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
