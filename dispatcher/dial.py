"""Open connections, to where the address policy lets them lead; `egress` sends over them."""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Protocol as Interface
from typing import cast

from aiohttp import StreamReader, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType

from dispatcher.addresses import Address, AddressPolicy

LOOKUP_THREADS = 32
"""Name look-ups at a time. They block a thread each, for up to half a minute when a name server is silent; the event
loop's own four to six would let a few dead names stop all new connections."""
LOOKING_UP = "looking up the name"


class Forbidden(OSError):
    """The policy refuses an address; an `OSError`, because that is what connecting may fail with."""

    def __init__(self, detail: str, address: str) -> None:
        super().__init__(errno.EACCES, detail)
        self.detail = detail
        self.address = address


@dataclass(slots=True)
class Progress:
    """How far an attempt has come, to tell when it goes no further, and what took how long; instants are monotonic."""

    monotonic: Callable[[], float] = time.perf_counter
    doing: str = "connecting"
    address: str | None = None
    """The address that was tried last, or is connected to."""
    reused: bool = False
    """An open connection was used."""
    lookup: float = 0.0
    """Seconds that looking up the name took; 0 for an address."""
    connecting_at: float | None = None
    connected_at: float | None = None
    """When TCP stood; TLS follows."""
    ready_at: float | None = None
    """When the connection could be written to."""
    written_at: float | None = None
    heard_at: float | None = None
    """When the first byte of the answer came."""


progress_here: ContextVar[Progress] = ContextVar("progress_here")
"""Of the attempt that runs in this context: resolver and socket factory are called by aiohttp, which passes nothing on."""


class Listener(Interface):
    """Who waits for an answer."""

    def heard(self) -> None:
        """Be told that something has come."""
        ...

    def broke(self, error: BaseException) -> None:
        """Be told that nothing more will come."""
        ...


class Protocol(ResponseHandler):
    """aiohttp's response protocol, which tells at once what has come: no future, and no task that waits for it."""

    heard_at: float | None = None
    """When the first byte of an answer came, monotonic; null: none came yet."""
    listener: Listener | None = None
    _body: StreamReader | None = None
    _prepared: int | None = None
    """Bytes that the parser is set up for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be made by aiohttp at the moment at which TCP stands, before TLS begins."""
        super().__init__(loop)
        progress = progress_here.get()
        self._monotonic = progress.monotonic
        progress.connected_at = self._monotonic()

    def listen(self, listener: Listener, *, read_bufsize: int) -> None:
        """Let somebody hear of the answer to what is written next; `read_bufsize`: bytes of it to hold unread, about.

        The parser stays as it is from answer to answer, as it does between an interim answer and the real one. What is
        held here is kept for another request only if the answer before was read to its proper end (`should_close`).
        What came in chunks is an exception, see `renew`.
        """
        if self._prepared != read_bufsize:
            self.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=read_bufsize)
            self._prepared = read_bufsize
        self.heard_at = None
        self.listener = listener

    def renew(self) -> None:
        """Take another parser for the next answer: of this one it keeps the trailer, for the head of the next."""
        self._prepared = None

    def reading(self, body: StreamReader | None) -> None:
        """Take note of the body that is being read, so that it breaks when the connection does.

        aiohttp leaves the reader of a body waiting if the rest of it turns out to be no proper HTTP.
        """
        self._body = body
        if (broken := self.exception()) is not None:
            self._break_body(broken)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Break, and the body with it."""
        super().set_exception(exc, *cause)
        self._break_body(exc, *cause)
        if self.listener is not None:
            if cause and isinstance(cause[0], Exception):  # as aiohttp does for those who wait for a future
                exc.__cause__ = cause[0]
            self.listener.broke(exc)

    def _break_body(self, exc: BaseException, *cause: BaseException) -> None:
        if self._body is not None and not self._body.is_eof() and self._body.exception() is None:
            self._body.set_exception(exc, *cause)

    def data_received(self, data: bytes) -> None:
        """Note it, and go on."""
        if self.heard_at is None:
            self.heard_at = self._monotonic()
        super().data_received(data)
        # only now, when aiohttp is done with it: a second answer behind the first shows in `should_close`
        if self.listener is not None:
            self.listener.heard()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp calls it
        """Go on if it was paused; a body's reader says so after each piece, and aiohttp then parses nothing at all."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)


class Connector(TCPConnector):
    """aiohttp's connector, guarded at both doors and with our protocol; it opens connections and keeps none."""

    def __init__(self, policy: AddressPolicy, *, resolver: AbstractResolver, ssl_context: ssl.SSLContext) -> None:
        super().__init__(
            limit=0,
            limit_per_host=0,
            force_close=True,
            use_dns_cache=False,  # A cached answer would be judged once and used for ever.
            resolver=GuardedResolver(policy, resolver),
            socket_factory=partial(guarded_socket, policy),
            ssl=ssl_context,
        )
        # aiohttp offers no other way to choose the protocol; a test sees to it that this one still works.
        self._factory = cast("partial[ResponseHandler]", partial(Protocol, loop=self._loop))


def shown(peer: tuple[str, int]) -> str:
    """Write a socket's address as people do: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def guarded_socket(policy: AddressPolicy, info: AddrInfoType) -> socket.socket:
    """Make a socket for one address, or raise `Forbidden`.

    aiohttp calls this with the very address that it then connects to, every time, also for addresses that no resolver
    was asked for: nothing gets past it, by whatever spelling or change of mind of a name server.
    """
    family, kind, protocol, _, peer = info
    text = shown((str(peer[0]), int(peer[1])))
    address = _parsed(str(peer[0]))
    refusal = f"{peer[0]} is no address." if address is None else policy.refusal(address)
    if refusal:
        raise Forbidden(refusal, text)
    progress = progress_here.get()
    progress.address = text
    if progress.connecting_at is None:
        progress.connecting_at = progress.monotonic()
    progress.doing = f"connecting to {text}"
    return socket.socket(family=family, type=kind, proto=protocol)


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class GuardedResolver(AbstractResolver):
    """Ask another resolver, and hold back the addresses that the policy refuses.

    A name that leads to open and to closed addresses is tried at the open ones; one that leads to closed ones only
    raises `Forbidden`. `guarded_socket` would stop them too, but could not tell those two apart.
    """

    def __init__(self, policy: AddressPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be connected to; raises `OSError` if there are none."""
        progress = progress_here.get()
        progress.doing = f"{LOOKING_UP} {host}"
        started = progress.monotonic()
        try:
            found = await self._resolver.resolve(host, port, family)
        except UnicodeError as error:  # A label too long, or empty: `getaddrinfo` cannot write it.
            raise OSError(None, "it is no name that can be looked up") from error
        progress.lookup = progress.monotonic() - started
        progress.doing = "connecting"
        allowed: list[ResolveResult] = []
        refused: list[tuple[str, str]] = []
        for entry in found:
            address = _parsed(entry["host"])
            refusal = self._policy.refusal(address) if address else None
            if refusal:
                refused.append((entry["host"], refusal))
            elif address:
                allowed.append(entry)
        if allowed:
            return allowed
        if refused:
            text, refusal = refused[0]
            raise Forbidden(f"{host} leads to a closed address: {refusal}", shown((text, port)))
        raise OSError(None, "it has no address")

    async def close(self) -> None:
        """Leave the other resolver to whoever made it."""


class SystemResolver(AbstractResolver):
    """Ask the operating system, in threads of our own, once for all that ask for the same name at the same time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self._lookups: dict[str, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp wants both families from us
    ) -> list[ResolveResult]:
        """Return the addresses of `host` as `getaddrinfo` orders them; raises `OSError`."""
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
            self._lookups[host] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(host, None))
        found = await asyncio.shield(lookup)
        return [ResolveResult(**{**entry, "port": port}) for entry in found]

    async def close(self) -> None:
        """Let the threads end; an unfinished look-up is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host, host=str(peer[0]), port=0, family=family, proto=protocol, flags=socket.AI_NUMERICHOST
        )
        for family, _, protocol, _, peer in found
    ]
