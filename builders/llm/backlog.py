"""From tasks to calls and back: which request is next, which task an answer belongs to, and who is done in which order.

Nothing here waits or sends. A bounded window of tasks is held: they enter it in their order and leave it in their
order, so memory does not grow with the number of tasks, and what is made of the answers does not depend on their speed.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from builders.llm.chat import REFUSED, ChatAnswer, TaskT, answer_of, body_of
from builders.llm.ledger import bytes_of, tokens_of
from builders.llm.progress import Progress
from builders.llm.store import keyed

if TYPE_CHECKING:
    from builders.llm.chat import Llm

LOOK_UP = 64
SMALLEST_WINDOW = 2048


class Call(NamedTuple):
    """A request that has to be sent.

    Attributes:
        key: in the store.
        request: as the store keeps it.
        body: the same, see `body_of`.
        prompt_bytes: length of its messages.
    """

    key: str
    request: str
    body: dict[str, Any]
    prompt_bytes: int


class _Slot(Generic[TaskT]):
    """A task in the window."""

    __slots__ = ("attempt", "settled", "task")

    def __init__(self, task: TaskT) -> None:
        self.task = task
        self.attempt = 0
        self.settled = False


class Backlog(Generic[TaskT]):
    """The tasks of one stage on their way.

    Attributes:
        stage: its name.
        account: what its calls cost.
        progress: what is shown of it.
    """

    def __init__(
        self,
        llm: "Llm",
        stage: str,
        tasks: Iterable[TaskT],
        *,
        total: int,
        attempts: int,
        done: Callable[[TaskT], None],
    ) -> None:
        self.stage = stage
        self.ledger = llm.ledger
        self.account = llm.ledger.account(stage)
        self.progress = Progress(stage, total, llm.ledger.cost)
        self._llm = llm
        self._tasks = iter(tasks)
        self._more = True
        self._attempts = attempts
        self._done = done
        self._window: deque[_Slot[TaskT]] = deque()
        self._size = max(4 * llm.config.concurrency, SMALLEST_WINDOW)
        self._ready: deque[Call] = deque()
        self._asked: dict[str, list[_Slot[TaskT]]] = {}

    def has_work(self) -> bool:
        """Whether a request has to be sent; goes through all tasks that the store can answer before the first."""
        while not self._ready and self._more and len(self._window) < self._size:
            self._enter()
        return bool(self._ready)

    def next(self) -> Call | None:
        """The next request to send; None if there is none now."""
        return self._ready.popleft() if self.has_work() else None

    def ready(self) -> int:
        """How many requests may be sent now."""
        return len(self._ready) if self.has_work() else 0

    def put_back(self, call: Call) -> None:
        """Takes back a call that was not sent."""
        self._ready.appendleft(call)

    @property
    def is_finished(self) -> bool:
        """Whether all tasks are settled."""
        return not self._more and not self._window

    def answered(self, call: Call, answer: dict[str, Any]) -> None:
        """Judges an answer that is in the store by now."""
        slots, given = self._asked.pop(call.key), answer_of(call.key, answer)
        self._judge(slots, given, new=True, prompt_bytes=call.prompt_bytes)
        self.progress.add(sum(tokens_of(given, call.prompt_bytes)))
        self._look_up([slot for slot in slots if not slot.settled])
        self._leave()

    def refused(self, call: Call, detail: str) -> None:
        """Settles the tasks of a call that the endpoint will not answer."""
        for slot in self._asked.pop(call.key):
            slot.task.refused(detail)
            slot.settled = True
            self.progress.rejected(REFUSED)
        self._leave()

    def _enter(self) -> None:
        """Takes some more tasks in."""
        room = self._size - len(self._window)
        slots = [_Slot(task) for task in islice(self._tasks, min(room, LOOK_UP))]
        self._more = bool(slots)
        self._window.extend(slots)
        self._look_up(slots)
        self._leave()

    def _look_up(self, slots: list[_Slot[TaskT]]) -> None:
        """Settles what the store can; what it lacks is ready to be sent."""
        while slots:
            asked = []
            for slot in slots:
                request = slot.task.request(slot.attempt)
                body = body_of(request, self._llm.config)
                asked.append((slot, Call(*keyed(body), body, bytes_of(request.messages))))
            found = self._llm.stored({call.key: call.request for _, call in asked})
            for slot, call in asked:
                if call.key in found:
                    answer = answer_of(call.key, found[call.key])
                    self._judge([slot], answer, new=False, prompt_bytes=call.prompt_bytes)
                elif call.key in self._asked:
                    self._asked[call.key].append(slot)
                else:
                    self._asked[call.key] = [slot]
                    self._ready.append(call)
            slots = [slot for slot, call in asked if call.key in found and not slot.settled]

    def _judge(self, slots: list[_Slot[TaskT]], answer: ChatAnswer, *, new: bool, prompt_bytes: int) -> None:
        self.ledger.learn(answer, prompt_bytes)
        if self.ledger.is_first(answer.key):
            self.account.add(answer, new=new, prompt_bytes=prompt_bytes)
        for slot in slots:
            reason = slot.task.take(answer)
            slot.attempt += 1
            slot.settled = reason is None or slot.attempt >= self._attempts
            if reason is None:
                self.account.accepted += 1
                self.progress.accepted()
            else:
                self.progress.rejected(reason, again=not slot.settled)

    def _leave(self) -> None:
        while self._window and self._window[0].settled:
            self._done(self._window.popleft().task)
