"""Single requests to the LLM, as the rows of a stage."""

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


def ask(llm, stage, requests):
    """Answers of single requests, whatever they say, in their order."""
    answered = []
    llm.run(stage, map(Once, requests), total=len(requests), attempts=1, done=answered.append)
    return [task.answer for task in answered]
