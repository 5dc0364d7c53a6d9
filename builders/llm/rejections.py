"""Answers that a stage cannot use, and requests without one: why, what helps, and when the stage ends."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from builders.llm.messages import REFUSED, ChatAnswer
from foils.errors import UserError
from foils.words import listed

logger = logging.getLogger(__name__)

ENOUGH = 50
"""Rows without a usable answer, after which a stage without any other ends."""
_THINKS = "set llm.thinking to false, or to true with a larger {0}.max_tokens"
_OTHER = "another llm.model or {0}.prompt may help"
_OTHER_OF = {
    "exam": "another LLM, with [exam.llm], or other exam.types may help",
    "exam-judge": "another LLM, with [exam.llm], may help",
}
_TABLES = {"queries": "queries", "exam": "queries", "exam-judge": "negatives.llm-judge"}
"""Of a stage's settings; those of a kind are in `negatives.KIND`."""
_REMEDIES = {
    "only-reasoning": _THINKS,
    "cut": "set {0}.max_tokens higher; " + _THINKS + " if the model thinks",
    "empty": "the endpoint sends no text, or [llm.fields] stop = false is needed",
    "too-few-texts": "set {0}.max_tokens higher or {0}.per_call lower",
    "other-script": "name an llm.model that knows the language",
    "other-language": "name an llm.model that knows the language",
    REFUSED: "see what the endpoint says",
}


def with_remedies(stage: str, reasons: Counter[str]) -> str:
    """Reasons with their numbers, the most frequent first, and what helps.

    >>> with_remedies("queries", Counter({"empty": 3}))
    'empty 3 (the endpoint sends no text, or [llm.fields] stop = false is needed)'
    >>> with_remedies("exam-judge", Counter({"no-verdict": 9}))
    'no-verdict 9 (another LLM, with [exam.llm], may help)'
    """
    table, other = _TABLES.get(stage, f"negatives.{stage}"), _OTHER_OF.get(stage, _OTHER)
    helps = ((reason, number, _REMEDIES.get(reason, other)) for reason, number in reasons.most_common(4))
    return ", ".join(f"{reason} {number:,} ({remedy.format(table)})" for reason, number, remedy in helps)


class Rejections:
    """What a stage's rows did not get.

    Attributes:
        accepted: whether any row got what it needs; from then on no answer is kept.
        unanswered: what the endpoint said of rows that it does not answer.
        reasons: why answers were rejected, with their numbers.
    """

    def __init__(self, stage: str) -> None:
        self.accepted = False
        self.reasons: Counter[str] = Counter()
        self._stage = stage
        self.unanswered: Counter[str] = Counter()
        self._kept: list[dict[str, Any]] = []

    def add(self, row: str, reason: str, answer: ChatAnswer) -> None:
        """Takes an answer that was rejected."""
        self.reasons[reason] += 1
        if not self.accepted:
            self._kept.append({"row": row, "reason": reason, "answer": answer.text, "finish": answer.finish_reason})

    def not_answered(self, row: str, words: str) -> None:
        """Takes a row that the endpoint does not answer."""
        if not self.unanswered:
            logger.warning("%s: %s goes without an answer: %s", self._stage, row, words)
        self.unanswered[words] += 1
        self.reasons[REFUSED] += 1
        if not self.accepted:
            self._kept.append({"row": row, "reason": REFUSED, "answer": words})

    def report(self) -> None:
        """Says how many rows go without an answer, where it is more than the one that was named."""
        number = self.unanswered.total()
        if number > 1:
            logger.warning("%s: %d rows go without an answer: %s", self._stage, number, self.said())

    def error(self, rows: int, file: Path | None) -> UserError:
        """The error for a stage of which no row has a usable answer; what was rejected is written to `file`."""
        where = ""
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{json.dumps(each)}\n" for each in self._kept), encoding="utf-8")
            where = f"; the answers are in {file}; foils doctor tries a change on a few rows"
        said = f"; the endpoint: {self.said()}" if self.unanswered else ""
        return UserError(
            f"{self._stage}: none of {rows} rows has a usable answer: {with_remedies(self._stage, self.reasons)}"
            f"{said}{where}"
        )

    def said(self) -> str:
        """What the endpoint says of rows that it does not answer, with their numbers."""
        return listed([f"{words} ({number})" for words, number in self.unanswered.most_common()], 3)
