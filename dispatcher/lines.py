"""Open connections to subscribers that wait for their next request. Opening them is left to `dial`."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.connector import Connection

from dispatcher.dial import Protocol

IDLE_SECONDS = 30.0
"""How long an unused connection is kept. Servers close theirs after 5 to 75 s; longer would only meet closed ones."""
LINE_SECONDS = 300.0
"""How long a busy connection is kept, so that a receiver that moved (DNS) is followed and its address judged again."""


@dataclass(slots=True, eq=False)
class Line:
    """An open connection and what is remembered of it."""

    origin: str
    """Scheme, host and port: what connections are shared by."""
    connection: Connection
    protocol: Protocol
    address: str | None
    opened_at: float
    idle_since: float

    def drop(self) -> None:
        """Close at once, also if the other side takes nothing of what is still to be written."""
        self.protocol.abort()
        self.connection.close()


class Lines:
    """Connections that wait for their next request.

    The one used last is used first, so that the surplus grows old and goes. Above `limit` the oldest goes at once.
    """

    def __init__(self, *, limit: int, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._by_origin: dict[str, list[Line]] = {}
        self._by_age: OrderedDict[Line, None] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, origin: str) -> Line | None:
        """Return a connection that looks alive and has nothing unread on it, if there is one."""
        while lines := self._by_origin.get(origin):
            line = lines[-1]
            self._remove(line, at=-1)
            # `should_close` is true also if bytes came that nobody asked for: they would pass for the next answer.
            if line.protocol.is_connected() and not line.protocol.should_close and not self._old(line):
                return line
            line.drop()
        return None

    def keep(self, line: Line) -> None:
        """Hold a connection whose exchange is complete for the next request."""
        now = line.idle_since = self._monotonic()
        if now - line.opened_at > LINE_SECONDS:
            line.drop()
            return
        lines = self._by_origin.get(line.origin)
        if lines is None:
            lines = self._by_origin[line.origin] = []
        lines.append(line)
        self._by_age[line] = None
        if len(self._by_age) > self._limit:
            self._drop_oldest()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def close(self) -> None:
        """Close all that is held."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._by_age:
            self._drop_oldest()

    def _old(self, line: Line) -> bool:
        now = self._monotonic()
        return now - line.idle_since > IDLE_SECONDS or now - line.opened_at > LINE_SECONDS

    def _remove(self, line: Line, *, at: int) -> None:
        del self._by_age[line]
        del self._by_origin[line.origin][at]

    def _drop_oldest(self) -> None:
        line = next(iter(self._by_age))
        self._remove(line, at=0)  # What is the oldest of all is the oldest of its origin.
        if not self._by_origin[line.origin]:
            del self._by_origin[line.origin]
        line.drop()

    def _sweep(self) -> None:
        self._sweeping = None
        while self._by_age and self._old(next(iter(self._by_age))):
            self._drop_oldest()
        if self._by_age:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)
