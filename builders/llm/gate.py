"""The way to one or several addresses of the same model: load goes where room is, and a failing address rests.

Each address has its own `Pressure`; what waits for a place waits here, in turn, for whichever address has one first.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from builders.llm.chat import Endpoint
from builders.llm.pressure import Failure, GaveUpError, Pressure
from builders.llm.wires import Line


class Address(NamedTuple):
    """An address, the line to it, and how hard it is pressed."""

    endpoint: Endpoint
    line: Line
    pressure: Pressure


class _Waiter(NamedTuple):
    """Somebody who waits for a place.

    Attributes:
        place: is given the address.
        patience_s: the longest wait that an address may ask for.
        until: when patience ends, on the monotonic clock; None: it has not begun.
        avoid: an address that is taken only if no other has room.
    """

    place: asyncio.Future[Address]
    patience_s: float
    until: float | None
    avoid: Address | None


class Gate:
    """Gives places: permissions to send one request to an address."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are in flight."""
        return sum(address.pressure.in_flight for address in self._addresses)

    def try_enter(self, avoid: Address | None = None) -> Address | None:
        """Takes a place at once if there is one and nobody waits; the common case, without a detour.

        Args:
            avoid: an address that is taken only if no other has room.
        """
        return None if self._waiting else self._taken(avoid)

    async def enter(self, patience_s: float, until: float | None = None, avoid: Address | None = None) -> Address:
        """Waits in turn for a place.

        Args:
            patience_s: the longest wait that an address may ask for.
            until: when patience ends, on the monotonic clock, of a request that was sent before.
            avoid: as for `try_enter`.

        Raises:
            GaveUpError: every address asks for a longer wait.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), patience_s, until, avoid)
        self._waiting.append(waiter)
        self._hand_out()
        try:
            return await waiter.place
        except asyncio.CancelledError:
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self.leave(waiter.place.result())  # given, and not wanted any more
            raise

    def leave(self, address: Address) -> None:
        """Gives a place back."""
        address.pressure.in_flight -= 1
        if self._waiting:
            self._hand_out()

    def succeeded(self, address: Address) -> None:
        """An answer came."""
        address.pressure.succeeded()
        if self._waiting:
            self._hand_out()

    def failed(self, address: Address, failure: Failure, started: float) -> bool:
        """Notes the failure of a request that was sent to an address at `started`.

        Returns:
            Whether this was a try of the request, see `Pressure.failed`; not if another address may do better.

        Raises:
            GaveUpError: no address has answered for long enough.
        """
        others = [other for other in self._addresses if other is not address]
        try:
            tried = address.pressure.failed(failure, started)
        except GaveUpError:
            if all(other.pressure.is_down for other in others):
                raise
            tried = False
        if others and address.pressure.is_failing:
            address.pressure.rest(started)
            return tried and all(other.pressure.is_failing for other in others)
        return tried

    def _taken(self, avoid: Address | None) -> Address | None:
        best, most = None, 0.0
        for address in self._addresses:
            room = address.pressure.room / (2 if address is avoid else 1)
            if room > most:
                best, most = address, room
        if best is not None:
            best.pressure.in_flight += 1
        return best

    def _hand_out(self) -> None:
        """Gives what places there are to those who wait longest; a place is theirs before they run again."""
        while self._waiting:
            if self._waiting[0].place.done():  # cancelled
                self._waiting.popleft()
                continue
            address = self._taken(self._waiting[0].avoid)
            if address is None:
                break
            self._waiting.popleft().place.set_result(address)
        if self._waiting:
            self._mind_holds()

    def _mind_holds(self) -> None:
        """Sends those away for whom a hold is too long, and comes back when the first hold ends."""
        waits = [address.pressure.wait_s for address in self._addresses]
        held = [wait for wait in waits if wait > 0]
        if not held:
            return
        if len(held) == len(waits):
            now, shortest = time.monotonic(), min(held)
            for waiter in self._waiting:
                left = waiter.patience_s if waiter.until is None else waiter.until - now
                if shortest > left and not waiter.place.done():
                    waiter.place.set_exception(
                        GaveUpError(f"asks to wait {shortest:.0f} s, which llm.row_deadline_s does not leave")
                    )
        if self._timer is None:
            # Not at the very moment, for others may wait for it too, but not before it.
            pause = min(held) + random.random() * min(min(held) / 10, 1.0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._hold_ended)

    def _hold_ended(self) -> None:
        self._timer = None
        self._hand_out()
