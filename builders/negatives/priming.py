"""Priming: the LLM says first what a hard negative is, and its answer opens every conversation (arXiv 2504.21015)."""

import logging

from builders.answers import texts_of
from builders.context import Context
from builders.hashing import keyed_hash
from builders.llm.messages import ChatAnswer, ChatRequest
from builders.prompts import Prompt
from foils.errors import UserError

logger = logging.getLogger(__name__)


def primed_by(prompt: Prompt, context: Context, max_tokens: int, kind: str) -> str | None:
    """The LLM's own answer to the prompt's priming question, asked once a kind; None without one."""
    if prompt.priming is None:
        return None
    task = _Priming(prompt.priming, 2 * max_tokens, keyed_hash(context.seed, "priming") % 2**31)
    context.converse(kind, [task], total=1, attempts=1, done=lambda _: None)
    if not task.text:
        logger.warning("%s: no usable answer to the priming question (%s); it is left out", kind, task.problem)
    return task.text or None


class _Priming:
    """The priming question."""

    def __init__(self, question: str, max_tokens: int, seed: int) -> None:
        self._request = ChatRequest(({"role": "user", "content": question},), max_tokens, 0.0, seed)
        self.text = ""
        self.problem: str | None = None

    def request(self, attempt: int) -> ChatRequest:  # noqa: ARG002
        return self._request

    def take(self, answer: ChatAnswer) -> str | None:
        texts, self.problem = texts_of(answer, 1, passages=True)
        self.text = " ".join(" ".join(texts).split())
        return self.problem

    def refused(self, detail: str) -> None:
        raise UserError(f"the LLM endpoint refuses the priming question: {detail}; take a prompt without one")
