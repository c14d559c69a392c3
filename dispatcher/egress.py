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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from typing import Literal, cast

from aiohttp import ClientRequest, ClientTimeout
from aiohttp.abc import AbstractResolver
from aiohttp.client_exceptions import (
    ClientConnectorError,
    ClientOSError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from yarl import URL

from dispatcher.addresses import AddressPolicy, check_url
from dispatcher.diagnosis import FOREIGN, diagnosis
from dispatcher.dial import LOOKING_UP, Connector, Forbidden, Progress, Protocol, SystemResolver, progress_here, shown
from dispatcher.errors import InvalidInput
from dispatcher.exchange import Deadlines, Exchange
from dispatcher.lines import Line, Lines
from dispatcher.model import Answered, Blocked, Outcome, Sent, Timings, Unreachable, UnreachableReason
from dispatcher.payload import CONTENT_TYPE
from dispatcher.swift import swift

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


@swift
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

Done = Callable[[Outcome | Exception], None]
"""Told what came of a request, or which fault of this program kept that from being known."""


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


@dataclass(frozen=True, slots=True)
class _Means:
    """What the requests of a sender share."""

    loop: asyncio.AbstractEventLoop
    monotonic: Callable[[], float]
    lines: Lines
    deadlines: Deadlines
    target: Callable[[str, str], _Target | str]
    open: Callable[[_Target, Progress], Awaitable[Line]]
    answer_limit: int
    connect_timeout: float


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
        self._user_agent = _line("User-Agent", user_agent)
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._own_resolver: AbstractResolver | None = None
        if resolver is None:
            resolver = self._own_resolver = SystemResolver()
        self._connector = Connector(policy, resolver=resolver, ssl_context=ssl_context or _tls())
        # One limit for look-up, TCP and TLS together; the threshold keeps aiohttp from rounding it up to whole seconds.
        self._connecting = ClientTimeout(connect=connect_timeout, ceil_threshold=float("inf"))
        self._means = _Means(
            loop=self._loop,
            monotonic=monotonic,
            lines=Lines(limit=idle_limit or spare_descriptors(), monotonic=monotonic),
            deadlines=Deadlines(self._loop),
            target=lru_cache(maxsize=TARGETS_CACHED)(self._prepare),
            open=self._open,
            answer_limit=answer_limit,
            connect_timeout=connect_timeout,
        )

    def begin(self, request: Request, done: Done) -> "Flight":
        """Send one request; `done` is called once, later, and never after `Flight.cancel`.

        Over a connection that is open this takes neither a task nor a future.
        """
        flight = Flight(self._means, request, done)
        flight.start()
        return flight

    async def send(self, request: Request) -> Outcome:
        """Send one request and say what came of it; only faults of this program and cancellation are raised."""
        landed: asyncio.Future[Outcome] = self._loop.create_future()
        flight = self.begin(request, partial(_tell, landed))
        try:
            return await landed
        except asyncio.CancelledError:
            flight.cancel()
            raise

    async def close(self) -> None:
        """Close all connections; what is in flight fails as if the other side had closed them."""
        self._means.lines.close()
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

    async def _open(self, target: _Target, progress: Progress) -> Line:
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
        return Line(target.origin, connection, protocol, address, opened_at=now, idle_since=now)


class Flight:
    """One request on its way."""

    __slots__ = (
        "_done",
        "_exchange",
        "_head",
        "_means",
        "_progress",
        "_request",
        "_started",
        "_target",
        "_task",
        "_wire",
        "ends_at",
    )

    def __init__(self, means: _Means, request: Request, done: Done) -> None:
        self._means = means
        self._request = request
        self._done: Done | None = done
        self._started = means.monotonic()
        self._progress = Progress(means.monotonic)
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        """While a connection is being opened."""
        self.ends_at = 0.0

    def start(self) -> None:
        """Write the request, or see to it that a connection is opened for it."""
        means, request = self._means, self._request
        target = means.target(request.url, request.method)
        if isinstance(target, str):
            self._refuse(target)
            return
        try:
            self._wire, self._head = _wire(target, request)
        except ValueError as error:
            self._refuse(str(error))
            return
        self._target = target
        means.deadlines.add(self, request.timeout)
        line = means.lines.take(target.origin)
        if line is None:
            self._open()
        else:
            self._progress.reused = True
            self._converse(line)

    def cancel(self) -> None:
        """Forget it; a connection that is in use is closed."""
        self._done = None
        self._means.deadlines.remove(self, self._request.timeout)
        self._break_off()

    def expire(self) -> None:
        """Hear that the deadline has passed."""
        self._break_off()
        self._land(self._failure(TimeoutError()))

    def _refuse(self, why: str) -> None:
        blocked = Blocked(why, self._means.monotonic() - self._started, None)
        self._means.loop.call_soon(self._land, blocked)

    def _open(self) -> None:
        self._exchange = None
        self._task = self._means.loop.create_task(self._connect())

    async def _connect(self) -> None:
        progress_here.set(self._progress)
        try:
            line = await self._means.open(self._target, self._progress)
        except FOREIGN as error:
            self._land(self._failure(error))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self._land(error)
        else:
            self._task = None
            self._converse(line)

    def _converse(self, line: Line) -> None:
        progress = self._progress
        progress.address = line.address
        self._exchange = exchange = Exchange(line, limit=self._means.answer_limit, done=self._ended)
        try:
            exchange.begin(self._wire)
        except FOREIGN as error:
            self._means.loop.call_soon(self._ended, error)
        progress.written_at = self._means.monotonic()

    def _ended(self, error: BaseException | None) -> None:
        exchange, progress = self._exchange, self._progress
        if exchange is None or self._done is None:
            return
        line = exchange.line
        progress.heard_at = line.protocol.heard_at
        if error is None:
            if exchange.reusable:
                self._means.lines.keep(line)
            else:
                line.drop()
            self._land(self._answer(exchange))
            return
        progress.doing = exchange.doing
        line.drop()
        unheard = progress.reused and progress.heard_at is None
        if unheard and isinstance(error, ServerDisconnectedError | ClientOSError):
            # It was closed while it idled, and our request crossed with the news. Once, and on a fresh connection: a
            # receiver that breaks off while it works on a request must not get it from every line that is held.
            progress.reused, progress.written_at = False, None
            self._open()
        elif isinstance(error, FOREIGN):
            self._land(self._failure(error))
        else:
            self._land(cast("Exception", error))

    def _land(self, outcome: Outcome | Exception) -> None:
        done, self._done = self._done, None
        self._exchange = None
        self._means.deadlines.remove(self, self._request.timeout)
        if done is not None:
            done(outcome)

    def _break_off(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._exchange is not None:
            self._exchange.cancel()
            self._progress.heard_at = self._exchange.line.protocol.heard_at
            self._progress.doing = self._exchange.doing
            self._exchange.line.drop()

    def _answer(self, exchange: Exchange) -> Outcome:
        message, progress = exchange.message, self._progress
        if message is None:
            raise AssertionError("an exchange that ended well has an answer")
        return Answered(
            status=message.code,
            headers=tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers]),
            body=exchange.body,
            body_cut=exchange.cut,
            seconds=self._means.monotonic() - self._started,
            address=progress.address,
            sent=_sent(self._request, self._head),
            timings=_timings(progress),
        )

    def _failure(self, error: BaseException) -> Outcome:
        request, progress = self._request, self._progress
        seconds = self._means.monotonic() - self._started
        forbidden = error.os_error if isinstance(error, ClientConnectorError) else error
        if isinstance(forbidden, Forbidden):
            return Blocked(forbidden.detail, seconds, forbidden.address)
        if isinstance(error, ConnectionTimeoutError):
            detail = f"No connection within {self._means.connect_timeout:g} s: it was still {progress.doing}."
            slow_name = progress.doing.startswith(LOOKING_UP)
            reason = UnreachableReason.DNS if slow_name else UnreachableReason.CONNECT_TIMEOUT
        elif isinstance(error, TimeoutError):
            reason = UnreachableReason.TIMEOUT
            detail = f"No complete answer within {request.timeout:g} s: it was still {progress.doing}."
        else:
            reason, detail = diagnosis(error)
        sent = None if progress.written_at is None else _sent(request, self._head)
        return Unreachable(reason, detail, seconds, progress.address, sent, _timings(progress))


def _tell(landed: asyncio.Future[Outcome], outcome: Outcome | Exception) -> None:
    if landed.done():
        return
    if isinstance(outcome, Exception):
        landed.set_exception(outcome)
    else:
        landed.set_result(outcome)


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
    values = []
    hidden = []
    typed = False
    for name, value in request.headers.items():
        lower, is_reserved, is_credential = _checked(name)
        if is_reserved:
            continue
        typed = typed or lower == "content-type"
        lines.append(f"{name}: {value}\r\n")
        values.append(value)
        if is_credential:
            hidden.append((len(lines) - 1, f"{name}: {HIDDEN}\r\n"))
    if _UNSENDABLE.search("".join(values)):  # one look at all; one at each only to say which it is
        for name, value in request.headers.items():
            _line(name, value)
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
def _checked(name: str) -> tuple[str, bool, bool]:
    """Return a header's name in lower case, whether it is left out, and whether its value is a credential."""
    if not _TOKEN.fullmatch(name):
        raise _Unsendable(f"The header {name[:100]!r} cannot be sent: no header is called so. Rename it.")
    lower = name.lower()
    is_credential = _CREDENTIAL.search(lower) is not None and not lower.startswith("webhook-")
    return lower, lower in RESERVED_HEADERS, is_credential


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
