"""An LLM for tests of the stages: it answers each request at once by a function, and records what it was asked."""


class ScriptedLlm:
    """Stands where a `Context` or `Llm.run` is wanted; `answer(request)` gives a `ChatAnswer`."""

    seed = 42

    def __init__(self, answer, language="en"):
        self.language = language
        self.asked = []
        self._answer = answer

    def converse(self, stage, tasks, *, total, attempts, done):
        tasks = list(tasks)
        assert len(tasks) == total, stage
        for task in tasks:
            for attempt in range(attempts):
                self.asked.append(task.request(attempt))
                if task.take(self._answer(self.asked[-1])) is None:
                    break
            done(task)
