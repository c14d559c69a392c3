"""Every exception of the libraries below becomes a reason and a sentence; none is left out."""

import errno
import inspect
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey

from dispatcher.diagnosis import FOREIGN, diagnosis
from dispatcher.model import UnreachableReason

KEY = ConnectionKey("receiver.example", 443, True, True, None, None, None)
ARGUMENTS: dict[str, Any] = {
    "connection_key": KEY,
    "os_error": OSError(errno.EHOSTUNREACH, "No route to host"),
    "certificate_error": ssl.SSLCertVerificationError("broken"),
    "path": "/run/socket",
    "request_info": None,
    "history": (),
    "expected": b"",
    "got": b"",
    "host": "receiver.example",
    "port": 443,
    "url": "https://receiver.example/secret?token=1",
    "line": b"x" * 9000,
    "limit": 8190,
    "hdr": b"a\nb",
    "message": "broken",
    "args": (1, "broken"),
    "kwargs": {},
}


def family(base: type[BaseException]) -> Iterator[type[BaseException]]:
    """Walk a class and all its descendants."""
    yield base
    for child in base.__subclasses__():
        yield from family(child)


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception of whatever class, with the arguments that it cannot do without."""
    needed = [
        ARGUMENTS[name]
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if name not in {"self", "args", "kwargs"}
        and parameter.default is parameter.empty
        and parameter.kind is not parameter.KEYWORD_ONLY
    ]
    return kind(*needed) if "__init__" in vars(kind) or needed else _inherited(kind)


def _inherited(kind: type[BaseException]) -> BaseException:
    return kind(KEY, ARGUMENTS["os_error"]) if issubclass(kind, aiohttp.ClientConnectorError) else kind("broken")


CLIENT_ERRORS = sorted({*family(aiohttp.ClientError), *family(http_exceptions.HttpProcessingError)}, key=str)


def test_the_walk_finds_the_tree() -> None:
    """The classes that the next test goes through are all that aiohttp's client publishes."""
    published = {getattr(client_exceptions, name) for name in client_exceptions.__all__}

    assert {kind for kind in published if issubclass(kind, aiohttp.ClientError)} <= set(CLIENT_ERRORS)


@pytest.mark.parametrize("kind", CLIENT_ERRORS, ids=lambda kind: kind.__name__)
def test_no_client_error_slips(kind: type[BaseException]) -> None:
    """Each of aiohttp's exceptions is caught and gets a reason and one line without any URL."""
    error = made(kind)

    reason, detail = diagnosis(error)

    assert isinstance(error, FOREIGN)
    assert reason in UnreachableReason
    assert detail.endswith((".", "?"))
    assert "\n" not in detail
    assert "token" not in detail


@pytest.mark.parametrize(
    "error, reason",
    [
        pytest.param(
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "Try again")),
            UnreachableReason.DNS,
            id="name server",
        ),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
            UnreachableReason.REFUSED,
            id="refused",
        ),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "Network is unreachable")),
            UnreachableReason.CONNECT,
            id="no route",
        ),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "Too many open files")),
            UnreachableReason.CONNECT,
            id="no file descriptors",
        ),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, TimeoutError(errno.ETIMEDOUT, "timed out")),
            UnreachableReason.CONNECT_TIMEOUT,
            id="kernel gave up",
        ),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, ConnectionResetError()), UnreachableReason.RESET, id="reset in handshake"
        ),
        pytest.param(aiohttp.ConnectionTimeoutError(), UnreachableReason.CONNECT_TIMEOUT, id="slow connect"),
        pytest.param(aiohttp.SocketTimeoutError(), UnreachableReason.TIMEOUT, id="slow read"),
        pytest.param(ConnectionResetError(errno.ECONNRESET, "reset"), UnreachableReason.RESET, id="reset"),
        pytest.param(ssl.SSLError(1, "bad"), UnreachableReason.TLS, id="TLS"),
        pytest.param(
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "bad")), UnreachableReason.TLS, id="TLS in connect"
        ),
        pytest.param(aiohttp.ClientPayloadError("short"), UnreachableReason.RESET, id="short body"),
        pytest.param(RuntimeError("uvloop says so"), UnreachableReason.PROTOCOL, id="uvloop"),
        pytest.param(OSError(errno.ENOBUFS, "No buffer space"), UnreachableReason.CONNECT, id="other"),
    ],
)
def test_causes_are_told_apart(error: BaseException, reason: UnreachableReason) -> None:
    """What happened decides the reason, not how deep a library wrapped it."""
    assert diagnosis(error)[0] == reason


@pytest.mark.parametrize("code", [9, 10, 18, 19, 20, 21, 62, 64])
def test_certificate_faults_have_plain_words(code: int) -> None:
    """The usual faults of certificates are said in words that need no OpenSSL."""
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, "jargon"

    reason, detail = diagnosis(aiohttp.ClientConnectorCertificateError(KEY, fault))

    assert reason is UnreachableReason.TLS
    assert "certificate" in detail
    assert "jargon" not in detail
