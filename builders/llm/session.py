"""A build's session with its LLM: the call store is open, and the endpoint is found when the first call needs it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from builders.llm import embedded
from builders.llm.answers import read_answers
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.endpoints import endpoint_of
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore


def identified(llm: LlmConfig) -> LlmConfig:
    """The LLM with the revision of the embedded model filled in where that one is used."""
    if not llm.is_embedded:
        return llm
    return msgspec.structs.replace(llm, revision=embedded.REVISION)


@contextmanager
def llm_session(llm: LlmConfig, store_file: Path) -> Iterator[Llm]:
    """Opens the call store; the embedded server starts with the first call that the store cannot answer."""
    with ExitStack() as stack:
        store = stack.enter_context(CallStore(store_file))

        def connect() -> Endpoint:
            return stack.enter_context(embedded.serve_embedded()) if llm.is_embedded else endpoint_of(llm)

        yield Llm(llm, store, connect, given=read_answers(Path(llm.answers)) if llm.answers else None)
