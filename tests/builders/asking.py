"""Single requests to the LLM, as the rows of a stage."""

from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import ChatRequest, Endpoint
from builders.llm.store import CallStore
from foils.errors import UserError


class Once:
    """A task that takes whatever comes."""

    def __init__(self, request):
        self._request = request
        self.answer = None

    def request(self, attempt):
        assert attempt == 0
        return self._request

    def take(self, answer):
        self.answer = answer

    def refused(self, detail):
        raise UserError(f"the LLM endpoint refuses a request: {detail}")


def question(text, seed=1):
    return ChatRequest(({"role": "user", "content": text},), max_tokens=9, temperature=0.5, seed=seed)


def ask(llm, stage, requests):
    """Answers of single requests, whatever they say, in their order."""
    answered = []
    llm.run(stage, map(Once, requests), total=len(requests), attempts=1, done=answered.append)
    return [task.answer for task in answered]


def ask_server(url, store_file, requests, ledger=None, **settings):
    """The same, of the scripted server and with a store."""
    config = LlmConfig(base_url=url, model="scripted", **{"timeout_s": 5.0, **settings})
    with CallStore(store_file) as store:
        return ask(Llm(config, store, lambda: Endpoint(url, "scripted"), ledger), "test", requests)
