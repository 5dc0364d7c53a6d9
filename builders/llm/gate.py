"""The way to one or several addresses of the same model: load goes where room is, and a failing address rests.

Each address has its own `Pressure`; what waits for a place waits here, for whichever address has one first.
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

FIRST_REST_S, LONGEST_REST_S = 5.0, 60.0


class Address(NamedTuple):
    """An address, the line to it, and how hard it is pressed."""

    endpoint: Endpoint
    line: Line
    pressure: Pressure


class Gate:
    """Gives places: permissions to send one request to an address."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._rests = {id(address): FIRST_REST_S for address in addresses}
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def in_flight(self) -> int:
        """Requests that are in flight."""
        return sum(address.pressure.in_flight for address in self._addresses)

    def try_enter(self, avoid: Address | None = None) -> Address | None:
        """Takes a place at once if there is one; the common case, without a detour through the event loop.

        Args:
            avoid: an address that is taken only if no other has room.
        """
        best, most = None, 0.0
        for address in self._addresses:
            room = address.pressure.room / (2 if address is avoid else 1)
            if room > most:
                best, most = address, room
        if best is not None:
            best.pressure.in_flight += 1
        return best

    async def enter(self, deadline: float, avoid: Address | None = None) -> Address:
        """Waits for a place.

        Raises:
            GaveUpError: every address asks for a wait that reaches beyond `deadline` (on the monotonic clock).
        """
        while True:
            address = self.try_enter(avoid)
            if address is not None:
                return address
            wait = min(address.pressure.wait_s for address in self._addresses)
            if wait > 0:
                if time.monotonic() + wait > deadline:
                    raise GaveUpError(f"asks to wait {wait:.0f} s, which llm.row_deadline_s does not leave")
                # Not all at the same moment, but none before it.
                await asyncio.sleep(wait + random.random() * min(wait / 10, 1.0))
                continue
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                self._wake()  # this call's turn goes to another
                raise

    def leave(self, address: Address) -> None:
        """Gives a place back."""
        address.pressure.in_flight -= 1
        if self._waiting:
            self._wake()

    def succeeded(self, address: Address) -> None:
        """An answer came."""
        address.pressure.succeeded()
        self._rests[id(address)] = FIRST_REST_S
        if self._waiting:
            self._wake()

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
            rest = self._rests[id(address)]
            address.pressure.rest(rest)
            self._rests[id(address)] = min(2 * rest, LONGEST_REST_S)
            return tried and all(other.pressure.is_failing for other in others)
        return tried

    def _wake(self) -> None:
        free = sum(max(address.pressure.spare, 0) for address in self._addresses)
        while free > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1
