"""Progress of many calls: one line that is redrawn on a terminal, a line in the log every half minute elsewhere."""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable

from tqdm import tqdm

from foils.words import duration

logger = logging.getLogger(__name__)

REDRAW_S = 0.25
LOG_S = 30.0
TOP_REASONS = 2


class Progress:
    """Counts rows and answers; shows rates, time left, and what is rejected while `show` runs.

    Attributes:
        done: rows that are settled, accepted or not.
        total: rows in all.
        calls: answers that this run has stored.

    >>> progress = Progress("queries", total=4, cost=lambda: "0.0012 USD")
    >>> progress.add(tokens=20)
    >>> progress.accepted()
    >>> progress.add(tokens=20)
    >>> progress.rejected("too-short", again=True)
    >>> progress.line(done_before=0, calls_before=0, tokens_before=0, seconds=2.0)
    'queries: 1 of 4 rows, 1.0 calls/s, 6 s left, 0 in flight, 20 tokens/s, 1 rejected (too-short 1), 0.0012 USD'
    """

    def __init__(self, label: str, total: int, cost: Callable[[], str | None]) -> None:
        self.done = 0
        self.total = total
        self.calls = 0
        self.in_flight: Callable[[], int] = lambda: 0
        self._label = label
        self._cost = cost
        self._tokens = 0
        self._reasons: Counter[str] = Counter()
        self._started = time.perf_counter()

    def add(self, tokens: int) -> None:
        """One more answer is stored."""
        self.calls += 1
        self._tokens += tokens

    def accepted(self) -> None:
        """A row has what it needs."""
        self.done += 1

    def rejected(self, reason: str, *, again: bool = False) -> None:
        """An answer was rejected; the row asks `again`, or goes without."""
        self._reasons[reason] += 1
        self.done += not again

    @property
    def left(self) -> int:
        """Rows that are not settled yet."""
        return self.total - self.done

    async def show(self) -> None:
        """Shows progress until it is cancelled; draws a bar only on a terminal, and only if it takes a moment."""
        self._started = time.perf_counter()
        await asyncio.sleep(REDRAW_S)
        if sys.stderr.isatty():
            await self._draw()
        else:
            await self._log()

    async def _draw(self) -> None:
        initial = self.done  # found in the store, which says nothing of the endpoint's speed
        with tqdm(total=self.total, initial=initial, desc=self._label, unit="row", dynamic_ncols=True) as bar:
            try:
                while True:
                    await asyncio.sleep(REDRAW_S)
                    self._redraw(bar)
            finally:
                self._redraw(bar)

    def _redraw(self, bar: "tqdm[None]") -> None:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        bar.set_postfix_str(
            f"{self.in_flight()} in flight, {self._tokens / seconds:,.0f} tokens/s{self._footer()}", refresh=False
        )
        bar.update(self.done - bar.n)
        bar.refresh()

    async def _log(self) -> None:
        while True:
            done, calls, tokens, since = self.done, self.calls, self._tokens, time.perf_counter()
            await asyncio.sleep(LOG_S)
            logger.info("%s", self.line(done, calls, tokens, time.perf_counter() - since))

    def line(self, done_before: int, calls_before: int, tokens_before: int, seconds: float) -> str:
        """The state in words, with the rates of the last `seconds`."""
        rate = (self.done - done_before) / seconds
        left = duration(self.left / rate) if rate else "?"
        return (
            f"{self._label}: {self.done:,} of {self.total:,} rows, {(self.calls - calls_before) / seconds:,.1f} "
            f"calls/s, {left} left, {self.in_flight()} in flight, {(self._tokens - tokens_before) / seconds:,.0f} "
            f"tokens/s{self._footer()}"
        )

    def _footer(self) -> str:
        """What was rejected, for which reasons above all, and the cost so far."""
        footer = ""
        if self._reasons:
            top = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common(TOP_REASONS))
            footer += f", {self._reasons.total():,} rejected ({top})"
        cost = self._cost()
        return f"{footer}, {cost}" if cost else footer
