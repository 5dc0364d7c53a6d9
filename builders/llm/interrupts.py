"""Ctrl-C while calls are in flight: a word to the calling loop, in place of an exception in the middle of it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def ctrl_c(handle: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `handle`, where the platform and the thread allow it; elsewhere it stops at once."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, ValueError, RuntimeError):
        loop.add_signal_handler(signal.SIGINT, handle)
    try:
        yield
    finally:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)
