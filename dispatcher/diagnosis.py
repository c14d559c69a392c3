"""Why a request got no answer: the exceptions of aiohttp, TLS and the system, translated once, here. Pure."""

import errno
import ssl

from aiohttp import ClientError
from aiohttp.client_exceptions import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientOSError,
    ClientPayloadError,
    ClientResponseError,
    ConnectionTimeoutError,
    InvalidURL,
    ServerConnectionError,
    ServerDisconnectedError,
    ServerFingerprintMismatch,
    ServerTimeoutError,
)
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from dispatcher.model import UnreachableReason

FOREIGN = (ClientError, HttpProcessingError, OSError, RuntimeError, ValueError, EOFError)
"""All that connecting, TLS, reading and parsing raise: aiohttp's trees, the system's errors (`TimeoutError` and
`ssl.SSLError` among them), uvloop's `RuntimeError`, and `ValueError` for names that cannot be encoded."""

_CERTIFICATE = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is signed by a private authority that this machine does not know",
    20: "its certificate is signed by an authority that this machine does not know, or one in between is missing",
    21: "a certificate in between is missing",
    62: "its certificate is for another name",
    64: "its certificate is not for this address",
}
"""OpenSSL's `X509_V_ERR_…` numbers that people meet, in their words."""

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}


def diagnosis(error: BaseException) -> tuple[UnreachableReason, str]:
    """Return why a request got no answer, as a class and as one line for people.

    Every exception of `FOREIGN` has an answer here; nothing of a URL but its host goes into the line.
    """
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError | ServerFingerprintMismatch):
        return UnreachableReason.TLS, _tls_detail(cause)
    match error:
        case ClientConnectorDNSError():
            return UnreachableReason.DNS, f"The name {error.host} leads nowhere: {_reason(cause)}."
        case ConnectionTimeoutError():
            return UnreachableReason.CONNECT_TIMEOUT, "No connection in time."
        case ServerTimeoutError():
            return UnreachableReason.TIMEOUT, "No complete answer in time."
        case ClientConnectorError():
            return _connecting(cause)
        case ServerConnectionError() | ConnectionError() | ClientOSError() | ClientPayloadError():
            return (
                UnreachableReason.RESET,
                f"The connection was lost before the whole answer had come: {_reason(error)}.",
            )
        case OSError():
            return _connecting(error)
        case _:
            return UnreachableReason.PROTOCOL, f"What came is not proper HTTP: {_reason(error)}."


def _connecting(cause: BaseException) -> tuple[UnreachableReason, str]:
    match cause:
        case OSError(errno=errno.ECONNREFUSED):
            return UnreachableReason.REFUSED, "The connection was refused: nothing listens there."
        case OSError(errno=errno.ETIMEDOUT):
            return UnreachableReason.CONNECT_TIMEOUT, "No connection: no sign of life from there."
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return UnreachableReason.CONNECT, "No connection: this machine has no file descriptors left (`ulimit -n`)."
        case ConnectionError():
            return UnreachableReason.RESET, "The connection was closed while it was being made."
        case _:
            return UnreachableReason.CONNECT, f"No connection: {_reason(cause)}."


def _tls_detail(cause: BaseException) -> str:
    match cause:
        case ssl.SSLCertVerificationError(verify_code=int(code), verify_message=jargon):
            return f"The server is not trusted: {_CERTIFICATE.get(code) or jargon}."
        case ssl.SSLError(reason=reason) if reason in _NOT_TLS:
            return "The server does not speak TLS on this port: are the URL's port and https right?"
        case ssl.SSLError(reason=str(reason)):
            return f"The TLS handshake failed: {reason.lower().replace('_', ' ')}."
        case _:
            return "The TLS handshake failed."


def _reason(error: BaseException) -> str:
    """Return what an exception says, on one line and not too long."""
    match error:
        case LineTooLong() | HttpProcessingError(__cause__=LineTooLong()):
            said = "a line of the answer's head is too long"
        case HttpProcessingError() | ClientResponseError():
            said = error.message
        case InvalidURL():
            said = "its URL cannot be used"
        case ClientPayloadError():
            said = "its body broke off"
        case ServerDisconnectedError(message=str()):
            said = "the other side closed it without an answer"
        case ServerDisconnectedError():
            said = "the other side closed it in the middle of the answer's head"
        case OSError(strerror=str(text)) if text:
            said = text
        case _:
            said = str(error)
    return " ".join(said.split())[:200].rstrip(".:") or type(error).__name__
