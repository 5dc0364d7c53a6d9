"""What a build's LLM calls cost: tokens, tries, time and money per stage, and a budget.

All figures come from the stored answers: a build that finds its answers in the store reports the same as the one that
asked for them.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from builders.llm.config import PricesConfig
from builders.llm.messages import ChatAnswer
from foils.errors import UserError

BYTES_PER_TOKEN = 4.0
"""Where an endpoint does not count, and in estimates: English text and its markup, in UTF-8."""
SAFE_BYTES_PER_TOKEN = 2.0
"""The fewest that a prompt is taken to have before the first answer."""
MILLION = 1_000_000
HOUR_S = 3600.0


class Spans:
    """Stretches of time, joined where they touch: how long at least one call was in flight.

    Attributes:
        seconds: the length of all stretches together.

    >>> spans = Spans()
    >>> for span in [(0.0, 2.0), (5.0, 6.0), (1.0, 3.0), (6.0, 7.0)]:
    ...     spans.add(*span)
    >>> spans.seconds
    5.0
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, start: float, end: float) -> None:
        """Adds a stretch."""
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        joined = zip(self._starts[first:last], self._ends[first:last], strict=True)
        self.seconds += end - start - sum(old_end - old_start for old_start, old_end in joined)
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]


_SUMS = ("calls", "failed_tries", "prompt_tokens", "completion_tokens", "uncounted_calls")


class Account:
    """One stage's calls and what came of them.

    Attributes:
        new_calls: those that this run asked for; all others were in the store.
        accepted: rows or texts that passed the stage's checks.
    """

    def __init__(self, prices: PricesConfig) -> None:
        self.new_calls = self.accepted = 0
        self._seconds, self._busy = 0.0, Spans()
        self._sums: Counter[str] = Counter()
        self._prices = prices

    @property
    def calls(self) -> int:
        """Answers that the stage's rows rest on."""
        return self._sums["calls"]

    def add(self, answer: ChatAnswer, *, new: bool, prompt_bytes: int) -> None:
        """Counts an answer, which this run asked for if it is `new`; `prompt_bytes` is the length of its messages."""
        self.new_calls += new
        is_uncounted = answer.prompt_tokens is None or answer.completion_tokens is None
        figures = (1, answer.failed_tries, *tokens_of(answer, prompt_bytes), is_uncounted)
        for name, figure in zip(_SUMS, figures, strict=True):
            self._sums[name] += figure
        self._seconds += answer.seconds
        if answer.ended is not None:
            self._busy.add(answer.ended - answer.seconds, answer.ended)

    @property
    def money(self) -> float:
        """What the calls cost by the recipe's prices."""
        tokens = self._prices.of_tokens(self._sums["prompt_tokens"], self._sums["completion_tokens"])
        return tokens + self._prices.hour * self._busy.seconds / HOUR_S

    def summary(self) -> dict[str, Any]:
        """The account as manifests keep it; money only where the recipe has prices."""
        seconds = {"call_seconds": round(self._seconds, 3), "busy_seconds": round(self._busy.seconds, 3)}
        figures: dict[str, Any] = {name: self._sums[name] for name in _SUMS}
        figures |= {**seconds, "accepted": self.accepted}
        if self._prices.known:
            figures |= {"money": round(self.money, 6), "currency": self._prices.currency}
        return figures


class Ledger:
    """All accounts of a build, and its budget.

    Attributes:
        reserved: money that is set aside for calls.
    """

    def __init__(self, prices: PricesConfig | None = None, budget: float | None = None) -> None:
        self._prices = prices or PricesConfig()
        self._budget = budget
        self._accounts: dict[str, Account] = {}
        self._counted: set[int] = set()
        self.reserved = 0.0
        self._densest: float | None = None  # bytes per token of the prompts so far

    def account(self, stage: str) -> Account:
        """A stage's account; the same one each time."""
        if stage not in self._accounts:
            self._accounts[stage] = Account(self._prices)
        return self._accounts[stage]

    def add(self, stage: str, answer: ChatAnswer, *, new: bool, prompt_bytes: int) -> None:
        """Counts an answer in a stage's account, unless it was counted before: rows may share a call."""
        if answer.prompt_tokens:
            seen = prompt_bytes / answer.prompt_tokens
            self._densest = min(self._densest or seen, seen)
        if hash(answer.key) not in self._counted:
            self._counted.add(hash(answer.key))
            self.account(stage).add(answer, new=new, prompt_bytes=prompt_bytes)

    @property
    def money(self) -> float:
        """What all calls so far cost."""
        return sum(account.money for account in self._accounts.values())

    def cost(self) -> str | None:
        """What all calls so far cost, in words; None without prices."""
        return f"{self.money:,.4f} {self._prices.currency}" if self._prices.known else None

    def summary(self) -> dict[str, dict[str, Any]]:
        """Stage -> its account."""
        return {stage: account.summary() for stage, account in self._accounts.items()}

    def sums(self, *figures: str) -> list[float]:
        """Figures of `Account.summary`, added up over the accounts."""
        accounts = self.summary().values()
        return [sum(account[figure] for account in accounts) for figure in figures]

    @property
    def new_calls(self) -> int:
        """Calls that this run made."""
        return sum(account.new_calls for account in self._accounts.values())

    def bound(self, prompt_bytes: int, max_tokens: int) -> float:
        """The most that one more call can cost in tokens; hours in flight count once they are over."""
        tokens = int(1.1 * prompt_bytes / (self._densest or SAFE_BYTES_PER_TOKEN)) + 1
        return self._prices.of_tokens(tokens, max_tokens)

    def reserve(self, bound: float) -> bool:
        """Sets money aside for a call; False if it might pass the budget."""
        if self._budget is not None and self.money + self.reserved + bound > self._budget:
            return False
        self.reserved += bound
        return True

    def release(self, bound: float) -> None:
        """Gives back what was set aside, once the answer is in its account or will not come."""
        self.reserved = max(0.0, round(self.reserved - bound, 12))

    def budget_spent(self, left: int, stage: str) -> UserError:
        """The error for a run whose next call might pass the budget."""
        account = self._accounts[stage]
        per_row = account.money / account.accepted if account.accepted else 0.0
        more = f"; about {left * per_row:,.2f} more for the {left:,} rows left of this stage" if per_row else ""
        return UserError(
            f"llm.budget {self._budget:g} {self._prices.currency}: {self.money:.4f} is spent and the next call might "
            f"pass it{more}; raise llm.budget or ask for fewer rows (corpus.sample), then run the same command again: "
            "answers so far are stored"
        )


def tokens_of(answer: ChatAnswer, prompt_bytes: int) -> tuple[int, int]:
    """Tokens in and out, guessed from bytes where the endpoint did not count them."""
    read, written = answer.prompt_tokens, answer.completion_tokens
    return (
        round(prompt_bytes / BYTES_PER_TOKEN) if read is None else read,
        round(_bytes(answer.text) / BYTES_PER_TOKEN) if written is None else written,
    )


def bytes_of(messages: Iterable[Mapping[str, str]]) -> int:
    """Length of a conversation in UTF-8."""
    return _bytes("".join([message["content"] for message in messages]))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))  # endpoints send lone ones
