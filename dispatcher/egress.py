"""The only connections to subscribers: a request goes in, an `Outcome` comes out, whatever the other side does.

Speaks HTTP/1.1 with aiohttp's own connector, response protocol and parser, but without `ClientSession`: it costs two
thirds of the processor time of a request for what is not wanted here (redirects, cookies, proxies, decompression,
content negotiation, tracing). What is wanted stands here in full: the address policy, the deadline, the bounds.
"""

import asyncio
import re
import resource
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import Literal, cast

from aiohttp import ClientRequest, ClientTimeout, StreamReader
from aiohttp.abc import AbstractResolver
from aiohttp.client_exceptions import (
    ClientConnectorError,
    ClientOSError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from dispatcher.addresses import AddressPolicy, check_url
from dispatcher.diagnosis import FOREIGN, diagnosis
from dispatcher.dial import LOOKING_UP, Connector, Forbidden, Progress, Protocol, SystemResolver, progress_here, shown
from dispatcher.errors import InvalidInput
from dispatcher.model import Answered, Blocked, Outcome, Sent, Timings, Unreachable, UnreachableReason
from dispatcher.payload import CONTENT_TYPE

IDLE_SECONDS = 30.0
"""How long an unused connection is kept. Servers close theirs after 5 to 75 s; longer would only meet closed ones."""
LINE_SECONDS = 300.0
"""How long a busy connection is kept, so that a receiver that moved (DNS) is followed and its address judged again."""
INTERIM_ANSWERS = 8
"""How many `1xx` answers may come before the real one; one is usual, a stream of them is an attack."""
TARGETS_CACHED = 2048
"""URLs whose request head is kept ready: some 4 KB each."""

RESERVED_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
"""Headers (in lower case) that belong to the connection or to the service; a request's own are left out."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what is sent, whereto, and how long it may take."""

    url: str
    headers: Mapping[str, str]
    """`Content-Type` is added if missing; see also `RESERVED_HEADERS`."""
    body: bytes
    timeout: float
    """Total deadline in seconds, from before the name look-up to the end of the answer."""
    method: Literal["POST", "OPTIONS"] = "POST"
    """Events are posted; a handshake may ask first."""


HIDDEN = "(hidden)"
"""What stands in the log of attempts for a credential."""

_WAITING = "waiting for an answer"


class _Unsendable(ValueError):
    """A header holds what would break out of it."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is known of a URL before the first request to it."""

    origin: str
    """Scheme, host and port: what connections are shared by."""
    head: str
    """The request's head as far as it is the same every time."""
    shown: str
    """The same, its query cut: it may hold a credential."""
    opening: ClientRequest
    """What aiohttp's connector wants to see to open a connection; never sent."""


@dataclass(slots=True, eq=False)
class _Line:
    """An open connection and what is remembered of it."""

    origin: str
    connection: Connection
    protocol: Protocol
    address: str | None
    opened_at: float
    idle_since: float

    def drop(self) -> None:
        """Close at once, also if the other side takes nothing of what is still to be written."""
        self.protocol.abort()
        self.connection.close()


class _Pool:
    """Connections that wait for their next request.

    The one used last is used first, so that the surplus grows old and goes. Above `limit` the oldest goes at once.
    """

    def __init__(self, *, limit: int, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._by_origin: dict[str, list[_Line]] = {}
        self._by_age: OrderedDict[_Line, None] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, origin: str) -> _Line | None:
        """Return a connection that looks alive and has nothing unread on it, if there is one."""
        while lines := self._by_origin.get(origin):
            line = lines[-1]
            self._remove(line, at=-1)
            # `should_close` is true also if bytes came that nobody asked for: they would pass for the next answer.
            if line.protocol.is_connected() and not line.protocol.should_close and not self._old(line):
                return line
            line.drop()
        return None

    def keep(self, line: _Line) -> None:
        """Hold a connection whose exchange is complete for the next request."""
        line.idle_since = self._monotonic()
        if self._old(line):
            line.drop()
            return
        self._by_origin.setdefault(line.origin, []).append(line)
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

    def _old(self, line: _Line) -> bool:
        now = self._monotonic()
        return now - line.idle_since > IDLE_SECONDS or now - line.opened_at > LINE_SECONDS

    def _remove(self, line: _Line, *, at: int) -> None:
        del self._by_age[line]
        lines = self._by_origin[line.origin]
        del lines[at]
        if not lines:
            del self._by_origin[line.origin]

    def _drop_oldest(self) -> None:
        line = next(iter(self._by_age))
        self._remove(line, at=0)  # What is the oldest of all is the oldest of its origin.
        line.drop()

    def _sweep(self) -> None:
        self._sweeping = None
        while self._by_age and self._old(next(iter(self._by_age))):
            self._drop_oldest()
        if self._by_age:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)


class Sender:
    """Send requests to subscribers.

    Holds connections open, so make one and keep it; needs a running event loop. `resolver` is asked for names only
    (never for addresses) and is not closed with the sender. `idle_limit` is how many unused connections are held at
    most, by default as many as `spare_descriptors` says. `monotonic` measures durations.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        https_only: bool,
        connect_timeout: float = 5.0,
        answer_limit: int = 16384,
        user_agent: str,
        ssl_context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        idle_limit: int | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._policy = policy
        self._https_only = https_only
        self._answer_limit = answer_limit
        self._user_agent = _line("User-Agent", user_agent)
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._own_resolver: AbstractResolver | None = None
        if resolver is None:
            resolver = self._own_resolver = SystemResolver()
        self._connector = Connector(policy, resolver=resolver, ssl_context=ssl_context or _tls())
        # One limit for look-up, TCP and TLS together; the threshold keeps aiohttp from rounding it up to whole seconds.
        self._connecting = ClientTimeout(connect=connect_timeout, ceil_threshold=float("inf"))
        self._connect_timeout = connect_timeout
        self._pool = _Pool(limit=idle_limit or spare_descriptors(), monotonic=monotonic)
        self._target = lru_cache(maxsize=TARGETS_CACHED)(self._prepare)

    async def send(self, request: Request) -> Outcome:
        """Send one request and say what came of it; only faults of this program and cancellation are raised."""
        started = self._monotonic()
        progress = Progress(self._monotonic)
        progress_here.set(progress)
        target = self._target(request.url, request.method)
        if isinstance(target, str):
            return Blocked(target, self._monotonic() - started, None)
        try:
            wire, head = _wire(target, request)
        except ValueError as error:
            return Blocked(str(error), self._monotonic() - started, None)
        try:
            async with asyncio.timeout(request.timeout):
                message, body, cut = await self._exchange(target, wire, progress)
        except FOREIGN as error:
            return self._failure(
                error, request=request, head=head, progress=progress, seconds=self._monotonic() - started
            )
        return Answered(
            status=message.code,
            headers=tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers]),
            body=body,
            body_cut=cut,
            seconds=self._monotonic() - started,
            address=progress.address,
            sent=_sent(request, head),
            timings=_timings(progress),
        )

    async def close(self) -> None:
        """Close all connections; what is in flight fails as if the other side had closed them."""
        self._pool.close()
        await self._connector.close()
        if self._own_resolver is not None:
            await self._own_resolver.close()

    def _prepare(self, url: str, method: str) -> _Target | str:
        """Judge a URL by today's settings, whatever they were when it was stored; return why not if it may not be used."""
        try:
            checked = check_url(url, https_only=self._https_only, policy=self._policy)
        except InvalidInput as refusal:
            return str(refusal)
        parsed = URL(checked, encoded=True)
        rest = (
            f" HTTP/1.1\r\nHost: {parsed.host_port_subcomponent}\r\n"
            f"{self._user_agent}Accept: */*\r\nAccept-Encoding: identity\r\n"
        )
        path = parsed.raw_path or "/"
        return _Target(
            origin=f"{parsed.scheme}://{parsed.raw_host}:{parsed.port}",
            head=f"{method} {parsed.raw_path_qs or '/'}{rest}",
            shown=f"{method} {path}{'?…' if parsed.raw_query_string else ''}{rest}",
            opening=ClientRequest(method, parsed, loop=self._loop),
        )

    async def _exchange(
        self, target: _Target, wire: bytes, progress: Progress
    ) -> tuple[RawResponseMessage, bytes, bool]:
        line = self._pool.take(target.origin)
        if line is not None:
            progress.reused = True
            try:
                return await self._converse(line, wire, progress)
            except (ServerDisconnectedError, ClientOSError):
                # It was closed while it idled, and our request crossed with the news. Once, and on a fresh connection:
                # a receiver that breaks off while it works on a request must not get it from every line that is held.
                if line.protocol.heard_at is not None:
                    raise
                progress.reused, progress.written_at = False, None
        line = await self._open(target, progress)
        return await self._converse(line, wire, progress)

    async def _open(self, target: _Target, progress: Progress) -> _Line:
        progress.doing = "connecting"
        try:
            connection = await self._connector.connect(target.opening, [], self._connecting)
        except TimeoutError as error:
            raise ConnectionTimeoutError from error
        protocol = cast("Protocol", connection.protocol)
        peer = protocol.transport and protocol.transport.get_extra_info("peername")
        now = progress.ready_at = self._monotonic()
        if not target.origin.startswith("https:"):
            progress.connected_at = now  # there was no TLS, not even a moment of it
        address = shown(peer) if peer else progress.address
        return _Line(target.origin, connection, protocol, address, opened_at=now, idle_since=now)

    async def _converse(self, line: _Line, wire: bytes, progress: Progress) -> tuple[RawResponseMessage, bytes, bool]:
        """Send one request on an open connection and read its answer, then keep the connection or drop it."""
        protocol = line.protocol
        progress.address = line.address
        progress.doing = _WAITING
        kept = False
        try:
            protocol.heard_at = None
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=self._answer_limit)
            transport = protocol.transport
            if transport is None:
                raise ServerDisconnectedError
            transport.write(wire)
            progress.written_at = self._monotonic()
            message, payload = await _answer(protocol)
            progress.doing = f"reading the answer's body (its head, with status {message.code}, had come)"
            protocol.reading(payload)
            body, cut = await _body(payload, limit=self._answer_limit)
            protocol.reading(None)
            # What is not written out yet was never wanted: the connection is of no more use.
            kept = not (cut or message.should_close or protocol.should_close or transport.get_write_buffer_size())
            return message, body, cut
        finally:
            progress.heard_at = protocol.heard_at
            if kept:
                self._pool.keep(line)
            else:
                if progress.doing == _WAITING and progress.heard_at is not None:
                    progress.doing = "waiting for the rest of the answer's head"
                line.drop()

    def _failure(
        self, error: BaseException, *, request: Request, head: str, progress: Progress, seconds: float
    ) -> Outcome:
        forbidden = error.os_error if isinstance(error, ClientConnectorError) else error
        if isinstance(forbidden, Forbidden):
            return Blocked(forbidden.detail, seconds, forbidden.address)
        if isinstance(error, ConnectionTimeoutError):
            detail = f"No connection within {self._connect_timeout:g} s: it was still {progress.doing}."
            slow_name = progress.doing.startswith(LOOKING_UP)
            reason = UnreachableReason.DNS if slow_name else UnreachableReason.CONNECT_TIMEOUT
        elif isinstance(error, TimeoutError):
            reason = UnreachableReason.TIMEOUT
            detail = f"No complete answer within {request.timeout:g} s: it was still {progress.doing}."
        else:
            reason, detail = diagnosis(error)
        sent = None if progress.written_at is None else _sent(request, head)
        return Unreachable(reason, detail, seconds, progress.address, sent, _timings(progress))


def spare_descriptors() -> int:
    """Return how many unused connections a process can afford: a quarter of the files it may open.

    They must not cost a request to a healthy receiver its descriptor; half of them are for what is in flight, the rest
    for the database, listeners and files.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 14 if soft == resource.RLIM_INFINITY else max(soft // 4, 1)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


# --- what is sent -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CREDENTIAL = re.compile(r"auth|cookie|key|pass|secret|token")
"""In the names of headers whose values may let somebody in; a signature lets nobody in."""
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def _wire(target: _Target, request: Request) -> tuple[bytes, str]:
    """Return the bytes of a request, and its head as it may be shown.

    Raises `_Unsendable` for a header that would break out of its line.
    """
    lines = []
    hidden = []
    typed = False
    for name, value in request.headers.items():
        lower, is_credential = _checked(name)
        if lower in RESERVED_HEADERS:
            continue
        typed = typed or lower == "content-type"
        lines.append(_line(name, value))
        if is_credential:
            hidden.append((len(lines) - 1, f"{name}: {HIDDEN}\r\n"))
    if not typed:
        lines.append(f"Content-Type: {CONTENT_TYPE}\r\n")
    lines.append(f"Content-Length: {len(request.body)}\r\n")
    own = "".join(lines)
    wire = b"".join(((target.head + own).encode(), b"\r\n", request.body))
    if hidden:
        for place, line in hidden:
            lines[place] = line
        own = "".join(lines)
    return wire, target.shown + own


@lru_cache(maxsize=1024)  # The same few names over and over.
def _checked(name: str) -> tuple[str, bool]:
    """Return a header's name in lower case, and whether its value is a credential."""
    if not _TOKEN.fullmatch(name):
        raise _Unsendable(f"The header {name[:100]!r} cannot be sent: no header is called so. Rename it.")
    lower = name.lower()
    return lower, _CREDENTIAL.search(lower) is not None and not lower.startswith("webhook-")


def _line(name: str, value: str) -> str:
    if _UNSENDABLE.search(value):
        raise _Unsendable(f"The header {name} cannot be sent: its value holds a line break or control character.")
    return f"{name}: {value}\r\n"


def _sent(request: Request, head: str) -> Sent:
    return Sent(head, len(request.body), sha256(request.body).digest())


def _timings(progress: Progress) -> Timings:
    first_byte = None
    if progress.heard_at is not None and progress.written_at is not None:
        first_byte = max(0.0, progress.heard_at - progress.written_at)
    if progress.reused:
        return Timings(True, 0.0, 0.0, 0.0, first_byte)
    connecting, connected, ready = progress.connecting_at, progress.connected_at, progress.ready_at
    return Timings(
        reused=False,
        lookup=None if connecting is None else progress.lookup,
        connect=None if connecting is None or connected is None else connected - connecting,
        tls=None if connected is None or ready is None else ready - connected,
        first_byte=first_byte,
    )


# --- what comes back --------------------------------------------------------------------------------------------------


async def _answer(protocol: Protocol) -> tuple[RawResponseMessage, StreamReader]:
    """Read up to the end of the head of the final answer."""
    for _ in range(INTERIM_ANSWERS + 1):
        message, payload = await protocol.read()
        if not HTTPStatus.CONTINUE <= message.code < HTTPStatus.OK or message.code == HTTPStatus.SWITCHING_PROTOCOLS:
            return message, payload
    raise HttpProcessingError(message=f"more than {INTERIM_ANSWERS} interim (1xx) answers came, and no real one")


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
