"""One request and its answer on an open connection, without a task and without a future: the parts of the answer come in by
calls of the protocol, the end goes out by a call.

aiohttp's parser reads; what is decided here is when an answer is whole, how much of it is wanted, and when it is too late.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

from aiohttp import StreamReader
from aiohttp.client_exceptions import ServerDisconnectedError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

from dispatcher.lines import Line

INTERIM_ANSWERS: Final = 8
"""How many `1xx` answers may come before the real one; one is usual, a stream of them is an attack."""

WAITING: Final = "waiting for an answer"

_T = TypeVar("_T")


class Exchange:
    """A request that was written, and what has come of its answer."""

    __slots__ = ("_done", "_interim", "_limit", "_reading", "body", "cut", "line", "message")

    def __init__(self, line: Line, *, limit: int, done: Callable[[BaseException | None], None]) -> None:
        """`done` is called once, unless all is cancelled: with what went wrong, or when the answer is here.

        `limit`: bytes of the answer's body to read.
        """
        self.line = line
        self._limit = limit
        self._done = done
        self._interim = 0
        self._reading: asyncio.Task[None] | None = None
        self.message: RawResponseMessage | None = None
        """The answer's head, as soon as it is here."""
        self.body = b""
        self.cut = False
        """There was more of the body than was read."""

    def begin(self, wire: bytes) -> None:
        """Write the request. Raises ServerDisconnectedError if the connection is gone; `done` is then not called."""
        protocol = self.line.protocol
        transport = protocol.transport
        if transport is None:
            raise ServerDisconnectedError
        protocol.listen(self, read_bufsize=self._limit)
        transport.write(wire)

    def heard(self) -> None:
        """See how much has come. Called by the protocol after it has read something."""
        try:
            self._take()
        except Exception as error:  # noqa: BLE001 - `done` decides; nobody else would hear of it
            self._end(error)

    def _take(self) -> None:
        protocol = self.line.protocol
        while len(protocol):
            message, payload = _at_once(protocol.read())
            code = message.code
            if HTTPStatus.CONTINUE <= code < HTTPStatus.OK and code != HTTPStatus.SWITCHING_PROTOCOLS:
                self._interim += 1
                if self._interim > INTERIM_ANSWERS:
                    text = f"more than {INTERIM_ANSWERS} interim (1xx) answers came, and no real one"
                    raise HttpProcessingError(message=text)
                continue
            self.message = message
            if message.chunked:
                protocol.renew()
            if payload.is_eof():
                body = payload.read_nowait(self._limit + 1)
                self.body, self.cut = body[: self._limit], len(body) > self._limit
                self._end(None)
            else:
                protocol.listener = None
                self._reading = asyncio.get_running_loop().create_task(self._read(payload))
            return

    async def _read(self, payload: StreamReader) -> None:
        """Read a body that did not come with its head."""
        protocol = self.line.protocol
        try:
            protocol.reading(payload)
            self.body, self.cut = await _body(payload, limit=self._limit)
            protocol.reading(None)
        except Exception as error:  # noqa: BLE001 - as above
            self._end(error)
        else:
            self._end(None)

    def broke(self, error: BaseException) -> None:
        """Hear that the connection was lost, or that what came is no HTTP. Called by the protocol."""
        self.line.protocol.listener = None
        # not from inside of the protocol, which is not done with it yet
        asyncio.get_running_loop().call_soon(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        self.line.protocol.listener = None
        done, self._done = self._done, _nobody  # whoever is told holds this: no circle shall be left to the collector
        done(error)

    def cancel(self) -> None:
        """Listen no more; the connection is of no further use."""
        self.line.protocol.listener = None
        self._done = _nobody
        if self._reading is not None:
            self._reading.cancel()

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request: all has come, and all has gone out."""
        protocol, message = self.line.protocol, self.message
        transport = protocol.transport
        if transport is None or message is None:
            return False
        # What is not written out yet was never wanted.
        return not (self.cut or message.should_close or protocol.should_close or transport.get_write_buffer_size())

    @property
    def doing(self) -> str:
        """How far it has come, for people."""
        if self.message is not None:
            return f"reading the answer's body (its head, with status {self.message.code}, had come)"
        return WAITING if self.line.protocol.heard_at is None else "waiting for the rest of the answer's head"


def _nobody(_error: BaseException | None) -> None:
    """Be told the end of what was cancelled."""


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    coroutine.close()
    raise RuntimeError("It waits.")


async def _body(payload: StreamReader, *, limit: int) -> tuple[bytes, bool]:
    """Read at most `limit` bytes; the flag is true if there were more."""
    chunks: list[bytes] = []
    room = limit + 1  # The one byte too many tells a long body from one that just fits.
    while room > 0 and not payload.at_eof():
        chunk = await payload.read(room)
        chunks.append(chunk)
        room -= len(chunk)
    body = b"".join(chunks)
    return body[:limit], room <= 0


class Limited(Protocol):
    """What has a deadline."""

    ends_at: float
    """By the event loop's clock."""

    def expire(self) -> None:
        """Be told that it has passed."""
        ...


class Deadlines:
    """Tell those whose time has passed.

    Most deadlines are far off and never come: so there is one timer for each length that is in use, not one for each
    request, and it is set to the first of them only when the one before it has rung.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, OrderedDict[Limited, None]] = {}

    def add(self, limited: Limited, seconds: float) -> None:
        """Set its deadline, so many seconds from now."""
        limited.ends_at = self._loop.time() + seconds
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = OrderedDict()
            self._loop.call_later(seconds, self._ring, seconds)
        queue[limited] = None

    def remove(self, limited: Limited, seconds: float) -> None:
        """Forget it; to be called once for each that was added, with the same length."""
        queue = self._queues.get(seconds)
        if queue is not None:
            queue.pop(limited, None)

    def _ring(self, seconds: float) -> None:
        queue = self._queues[seconds]
        now = self._loop.time()
        while queue:
            first = next(iter(queue))
            if first.ends_at > now:
                self._loop.call_at(first.ends_at, self._ring, seconds)
                return
            del queue[first]
            first.expire()
        del self._queues[seconds]
