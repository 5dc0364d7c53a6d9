"""Progress of many calls: one line that is redrawn on a terminal, a line in the log every half minute elsewhere."""

import io
import logging
import sys
from collections import Counter
from collections.abc import Callable

from tqdm import tqdm

logger = logging.getLogger(__name__)

REDRAW_S, LOG_S = 0.25, 30.0
TOP_REASONS = 2


class _Log(io.StringIO):
    """Takes what would be drawn, as lines of the log."""

    def write(self, text: str) -> int:
        if text.strip():
            logger.info("%s", text.strip())
        return len(text)


class Progress(tqdm):  # type: ignore[misc]
    """A bar of rows that are settled, accepted or not; drawn only if it takes a moment.

    Args:
        label: names the stage.
        total: rows in all.
        details: requests in flight, and what all calls so far cost, in words.
        reasons: why answers were rejected.

    Attributes:
        n: rows that are settled.
        calls: answers that this run has stored.
    """

    def __init__(
        self, label: str, total: int, details: Callable[[], tuple[int, str | None]], reasons: Counter[str]
    ) -> None:
        self.calls = self._tokens = 0
        self._details, self._reasons = details, reasons
        on_terminal = sys.stderr.isatty()
        every = REDRAW_S if on_terminal else LOG_S
        super().__init__(
            total=total,
            desc=label,
            unit="row",
            delay=every,
            mininterval=every,
            dynamic_ncols=on_terminal,
            file=sys.stderr if on_terminal else _Log(),
            **({} if on_terminal else {"disable": False}),  # lines of a log have nothing to do with TQDM_DISABLE
        )

    def add(self, tokens: int) -> None:
        """One more answer is stored."""
        self.calls += 1
        self._tokens += tokens

    def refresh(self, *args: object, **kwargs: object) -> None:
        """Draws the bar, with speed, what was rejected for which reasons above all, and the cost so far."""
        in_flight, cost = self._details()
        seconds = max(self.format_dict["elapsed"], 1e-9)
        details = [f"{in_flight} in flight", f"{self._tokens / seconds:,.0f} tokens/s"]
        if self._reasons:
            top = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common(TOP_REASONS))
            details.append(f"{self._reasons.total():,} rejected ({top})")
        self.postfix = ", ".join([*details, *filter(None, [cost])])
        super().refresh(*args, **kwargs)
