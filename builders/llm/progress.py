"""Progress of many calls: one line that is redrawn on a terminal, a line in the log every half minute elsewhere."""

import asyncio
import io
import logging
import sys
from collections import Counter
from collections.abc import Callable

from tqdm import tqdm

logger = logging.getLogger(__name__)

REDRAW_S = 0.25
LOG_S = 30.0
TOP_REASONS = 2


class Progress:
    """Counts rows and answers; shows the rate, the time left, and what is rejected while `show` runs.

    Args:
        label: names the stage.
        total: rows in all.
        cost: what all calls so far cost, in words.
        reasons: why answers were rejected.

    Attributes:
        done: rows that are settled, accepted or not.
        total: as given.
        calls: answers that this run has stored.

    >>> progress = Progress("queries", 4, lambda: "0.0012 USD", Counter(["too-short"]))
    >>> progress.add(tokens=20)
    >>> progress.details(seconds=2.0)
    '0 in flight, 10 tokens/s, 1 rejected (too-short 1), 0.0012 USD'
    """

    def __init__(self, label: str, total: int, cost: Callable[[], str | None], reasons: Counter[str]) -> None:
        self.done = 0
        self.total = total
        self.calls = 0
        self.in_flight: Callable[[], int] = lambda: 0
        self._label = label
        self._cost = cost
        self._tokens = 0
        self._reasons = reasons

    def add(self, tokens: int) -> None:
        """One more answer is stored."""
        self.calls += 1
        self._tokens += tokens

    @property
    def left(self) -> int:
        """Rows that are not settled yet."""
        return self.total - self.done

    async def show(self) -> None:
        """Shows progress until it is cancelled; draws a bar only on a terminal, and only if it takes a moment."""
        await asyncio.sleep(REDRAW_S)
        on_terminal = sys.stderr.isatty()
        with tqdm(
            total=self.total,
            initial=self.done,  # found in the store, which says nothing of the endpoint's speed
            desc=self._label,
            unit="row",
            dynamic_ncols=on_terminal,
            file=sys.stderr if on_terminal else io.StringIO(),
            **({} if on_terminal else {"disable": False}),  # lines of a log have nothing to do with TQDM_DISABLE
        ) as bar:
            try:
                while True:
                    await asyncio.sleep(REDRAW_S if on_terminal else LOG_S)
                    self._redraw(bar)
                    if not on_terminal:
                        logger.info("%s", bar)
            finally:
                self._redraw(bar)

    def _redraw(self, bar: "tqdm[None]") -> None:
        bar.set_postfix_str(self.details(max(bar.format_dict["elapsed"], 1e-9)), refresh=False)
        bar.update(self.done - bar.n)
        bar.refresh()

    def details(self, seconds: float) -> str:
        """Requests in flight, speed, what was rejected for which reasons above all, and the cost so far."""
        details = [f"{self.in_flight()} in flight", f"{self._tokens / seconds:,.0f} tokens/s"]
        if self._reasons:
            top = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common(TOP_REASONS))
            details.append(f"{self._reasons.total():,} rejected ({top})")
        return ", ".join([*details, *filter(None, [self._cost()])])
