"""A scripted subscriber: a real server on loopback that answers as it is told, and misbehaves on command.

    async with Receiver() as receiver:
        receiver.on("/hook", answer(500), answer(429, headers={"Retry-After": "7"}), answer(204))
        ...
        first, second, third = await receiver.wait_for(3)
        assert third.headers["webhook-id"] == first.headers["webhook-id"]

Each request to a path takes the path's next behaviour, the last one stays. Paths without a script answer 204. A
behaviour is any coroutine function that takes an `Exchange`; those below cover what subscribers do.
"""

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self, cast

import trustme

ANY = "*"
"""In place of a path: all paths without a script of their own."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request, whole, as it came."""

    method: str
    path: str
    """With its query, if any."""
    headers: Mapping[str, str]
    """Names in lower case."""
    raw_headers: tuple[tuple[str, str], ...]
    body: bytes
    at: float
    """Seconds on the receiver's monotonic clock, when the last byte of the request had come."""
    connection: int
    """Which connection it came over; the first is 1."""


class Exchange:
    """A request and the means to answer it."""

    def __init__(self, request: Received, connection: "_Connection") -> None:
        self.request = request
        self.left = connection.left
        """Set when the client has gone, or the receiver is stopped."""
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Write bytes as they are, as fast as the client reads; raises `ConnectionError` once it has gone."""
        await self._connection.write(data)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the client has gone: what misbehaves slowly takes its time with this."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.left.wait(), seconds)

    def close(self) -> None:
        """Close in order, after what was sent."""
        self._connection.transport.close()

    def reset(self) -> None:
        """Tear the connection down with RST."""
        handle = self._connection.transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of an answer's head."""
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(
    status: int = 204,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    after: asyncio.Event | None = None,
) -> Behaviour:
    """Answer at once, or when `after` is set; the connection stays open unless a header says otherwise."""

    async def behave(exchange: Exchange) -> None:
        if after is not None:
            await _first(after, exchange.left)
        length = {} if status in {204, 304} else {"Content-Length": str(len(body))}
        await exchange.send(head(status, {**length, **(headers or {})}) + body)

    return behave


def redirect(location: str, *, status: int = 302) -> Behaviour:
    """Point elsewhere."""
    return answer(status, headers={"Location": location})


def raw(data: bytes, *, close: bool = True) -> Behaviour:
    """Send bytes as they are, then close (or leave the connection as if that had been an answer)."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        if close:
            exchange.close()

    return behave


async def hang(exchange: Exchange) -> None:
    """Never answer."""
    await exchange.left.wait()


async def close_silently(exchange: Exchange) -> None:
    """Close in order without an answer."""
    exchange.close()


async def reset(exchange: Exchange) -> None:
    """Tear the connection down with RST."""
    exchange.reset()


def hang_after(data: bytes) -> Behaviour:
    """Send these bytes, then nothing more."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.left.wait()

    return behave


def drip(start: bytes, drop: bytes, *, every: float = 0.02) -> Behaviour:
    """Send `start`, then `drop` again and again, for ever: slow enough to hang, fast enough for any read time-out."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(start)
        while not exchange.left.is_set():
            await exchange.send(drop)
            await exchange.pause(every)

    return behave


drip_head = drip(b"HTTP/1.1 200 Scripted\r\nX-Slow: ", b"o")
"""A head that never ends."""
drip_body = drip(head(200, {"Content-Length": "1000000"}), b"o")
"""A whole head, and a body that never ends, byte by byte."""


async def endless_body(exchange: Exchange) -> None:
    """Send a body for as long as anybody reads it, as fast as it is read."""
    await exchange.send(head(200, {"Transfer-Encoding": "chunked"}))
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while True:
        await exchange.send(chunk)


def gzip_bomb(size: int = 64 * 1024 * 1024) -> Behaviour:
    """Answer with a small body that grows to `size` bytes when it is decompressed."""
    body = gzip.compress(bytes(size), compresslevel=9)
    return answer(200, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}, body=body)


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


class Receiver:
    """Listens on loopback and does as the scripts say.

    `port` stays the same through `stop` and `start`, so that an outage can be played. With `tls`, speaks TLS; see
    `certificate`. `host` is the name in `url`, not what it listens on.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", listen: str = "127.0.0.1"
    ) -> None:
        self.received: list[Received] = []
        """All requests so far, in the order they came."""
        self.connections = 0
        """How many connections were accepted so far (after the handshake, with TLS)."""
        self.in_flight: Counter[str] = Counter()
        """Requests that are not answered yet, by path."""
        self.most_in_flight: Counter[str] = Counter()
        """The most there were at one time, by path."""
        self.port = 0
        self._tls = tls
        self._host = host
        self._listen = listen
        self._scripts: dict[str, list[Behaviour]] = {ANY: [answer(204)]}
        self._arrival = asyncio.Condition()
        self._listener: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.stop()

    @property
    def url(self) -> str:
        """Scheme, host and port; add a path."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def on(self, path: str, *behaviours: Behaviour) -> None:
        """Script a path (without query), or `ANY`: each request takes the next behaviour, the last one stays."""
        if not behaviours:
            raise ValueError("A script needs a behaviour.")
        self._scripts[path] = list(behaviours)

    def at(self, path: str) -> list[Received]:
        """What came to one path (without query) so far."""
        return [request for request in self.received if _plain(request.path) == path]

    async def wait_for(self, count: int, timeout: float = 5.0, *, path: str | None = None) -> Sequence[Received]:
        """Wait until `count` requests came (to `path`, if given) and return them; `AssertionError` after `timeout` seconds."""

        def came() -> list[Received]:
            return self.received if path is None else self.at(path)

        async with self._arrival:
            try:
                await asyncio.wait_for(self._arrival.wait_for(lambda: len(came()) >= count), timeout)
            except TimeoutError:
                seen = Counter(request.path for request in self.received)
                raise AssertionError(
                    f"{len(came())} of {count} requests within {timeout} s; came: {dict(seen)}"
                ) from None
        return came()[:count]

    async def start(self) -> None:
        """Take connections, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(self), self._listen, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        serving = [connection.end() for connection in tuple(self._open)]
        await asyncio.gather(*serving, return_exceptions=True)

    async def behave(self, request: Received, connection: "_Connection") -> None:
        """Answer one request by the script of its path."""
        path = _plain(request.path)
        script = self._scripts.get(path) or self._scripts[ANY]
        behaviour = script.pop(0) if len(script) > 1 else script[0]
        self.in_flight[path] += 1
        self.most_in_flight[path] = max(self.most_in_flight[path], self.in_flight[path])
        self.received.append(request)
        async with self._arrival:
            self._arrival.notify_all()
        try:
            await behaviour(Exchange(request, connection))
        finally:
            self.in_flight[path] -= 1

    def opened(self, connection: "_Connection") -> int:
        """Note a new connection and return its number."""
        self._open.add(connection)
        self.connections += 1
        return self.connections

    def closed(self, connection: "_Connection") -> None:
        """Note that a connection is gone."""
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One connection: requests are read one after the other, each is answered before the next is looked at."""

    def __init__(self, receiver: Receiver) -> None:
        self.left = asyncio.Event()
        self._receiver = receiver
        self._buffer = bytearray()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._number = self._receiver.opened(self)
        self._task = asyncio.ensure_future(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._receiver.closed(self)
        self.left.set()
        self._more.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def write(self, data: bytes) -> None:
        """Write, then wait until most of it is on its way."""
        if self.left.is_set():
            raise ConnectionResetError("The client has gone.")
        self.transport.write(data)
        await self._writable.wait()

    def end(self) -> asyncio.Task[None]:
        """Close at once; the task ends soon."""
        self.transport.abort()
        self._task.cancel()
        return self._task

    async def _serve(self) -> None:
        try:
            while not self.transport.is_closing():
                await self._receiver.behave(await self._request(), self)
        except ConnectionError:
            pass  # The client has gone: its part in the play.
        finally:
            self.transport.close()

    async def _request(self) -> Received:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._wait()
        start, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, path, _ = start.split(" ")
        raw_headers = tuple([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])
        headers = {name.lower(): value for name, value in raw_headers}
        whole = end + 4 + int(headers.get("content-length", "0"))
        while len(self._buffer) < whole:
            await self._wait()
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        now = asyncio.get_running_loop().time()
        return Received(method, path, headers, raw_headers, body, now, self._number)

    async def _wait(self) -> None:
        self._more.clear()
        await self._more.wait()
        if self.left.is_set():
            raise ConnectionResetError("The client has gone.")


def certificate(authority: trustme.CA, *names: str, expires: datetime | None = None) -> ssl.SSLContext:
    """Return what `Receiver(tls=…)` wants: a certificate of `authority` for these names or addresses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=expires).configure_cert(context)
    return context


def trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    """Return a client's context that trusts these authorities and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        authority.configure_trust(context)
    return context


def _plain(path: str) -> str:
    return path.partition("?")[0]
