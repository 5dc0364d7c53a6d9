"""A build's session with its LLM: the call store is open, and the endpoint is found when the first call needs it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import msgspec

from builders.llm import embedded
from builders.llm.answers import read_answers
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore


def identified(llm: LlmConfig) -> LlmConfig:
    """The LLM with the revision of the embedded model filled in where that one is used."""
    return msgspec.structs.replace(llm, revision=embedded.REVISION) if llm.is_embedded else llm


def endpoint_of(llm: LlmConfig) -> AbstractContextManager[Endpoint]:
    """Where the recipe's LLM is; the embedded one is served meanwhile."""
    if llm.is_embedded:
        return embedded.serve_embedded()
    return nullcontext(Endpoint(llm.base_url, llm.model, llm.provider))


@contextmanager
def llm_session(llm: LlmConfig, store_file: Path, out: Path | None = None) -> Iterator[Llm]:
    """Opens the call store; the embedded server starts with the first call that the store cannot answer.

    Answers that end a build because none could be used are written beside the data set `out`, or beside the store.
    """
    with ExitStack() as stack:
        given = read_answers(Path(llm.answers)) if llm.answers else None
        store = stack.enter_context(CallStore(store_file, given))
        session = Llm(llm, store, lambda: stack.enter_context(endpoint_of(llm)))
        beside = store_file if out is None else out
        session.rejected_file = beside.with_name(f"{beside.stem}-rejected.jsonl")
        yield session
