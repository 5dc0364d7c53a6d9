"""Progress of many calls: one line that is redrawn on a terminal, a line in the log every half minute elsewhere."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

logger = logging.getLogger(__name__)

REDRAW_S = 0.25
LOG_S = 30.0


class Progress:
    """Counts answers; shows rate, time left, requests in flight and tokens per second while `show` runs.

    >>> progress = Progress("queries", total=4, in_flight=lambda: 1)
    >>> progress.add(tokens=20)
    >>> progress.line(done_before=0, seconds=2.0)
    'queries: 1 of 4 answered, 0.5 calls/s, 6 s left, 1 in flight, 10 tokens/s'
    """

    def __init__(self, label: str, total: int, in_flight: Callable[[], int]) -> None:
        self.done = 0
        self.total = total
        self._label = label
        self._in_flight = in_flight
        self._tokens = self._tokens_shown = 0
        self._started = time.perf_counter()

    def add(self, tokens: int) -> None:
        """One more answer is stored."""
        self.done += 1
        self._tokens += tokens

    @property
    def left(self) -> int:
        """Answers that are still to come."""
        return self.total - self.done

    async def show(self) -> None:
        """Shows progress until it is cancelled; draws a bar only where somebody can see it move."""
        if sys.stderr.isatty():
            await self._draw()
        else:
            await self._log()

    async def _draw(self) -> None:
        with tqdm(total=self.total, desc=self._label, unit="call", dynamic_ncols=True) as bar:
            try:
                while True:
                    await asyncio.sleep(REDRAW_S)
                    self._redraw(bar)
            finally:
                self._redraw(bar)

    def _redraw(self, bar: "tqdm[None]") -> None:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        bar.set_postfix_str(f"{self._in_flight()} in flight, {self._tokens / seconds:,.0f} tokens/s", refresh=False)
        bar.update(self.done - bar.n)
        bar.refresh()

    async def _log(self) -> None:
        while True:
            done, self._tokens_shown, since = self.done, self._tokens, time.perf_counter()
            await asyncio.sleep(LOG_S)
            logger.info("%s", self.line(done, time.perf_counter() - since))

    def line(self, done_before: int, seconds: float) -> str:
        """The state in words, with the rates of the last `seconds`."""
        rate = (self.done - done_before) / seconds
        left = _duration((self.total - self.done) / rate) if rate else "?"
        return (
            f"{self._label}: {self.done:,} of {self.total:,} answered, {rate:,.1f} calls/s, {left} left, "
            f"{self._in_flight()} in flight, {(self._tokens - self._tokens_shown) / seconds:,.0f} tokens/s"
        )


def _duration(seconds: float) -> str:
    """Seconds in the unit that says most.

    >>> _duration(90), _duration(7200)
    ('90 s', '2.0 h')
    """
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"  # noqa: PLR2004
