"""Mail servers for tests: a list that is a mailer, and a real one on loopback that fails as it is told to."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from typing import Any, Literal

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Stage = Literal["MAIL", "RCPT", "DATA"]

HANG_UP = "hang up"
"""Instead of a reply: the connection is lost."""


class MailList(list[EmailMessage]):
    """A mailer that keeps what it is given. `fail`, if set, may raise instead."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: Callable[[EmailMessage], None] | None = None
        self.tries = 0

    async def send(self, message: EmailMessage) -> None:
        """Keep `message`."""
        self.tries += 1
        if self.fail is not None:
            self.fail(message)
        self.append(message)


@dataclass(frozen=True, slots=True)
class Received:
    """A mail as it came over the wire."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    connection: int
    """Number of the connection, from 1."""
    tls: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        message = message_from_bytes(self.content, policy=SMTP_POLICY)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class Sink:
    """What a mail server has seen, and how it shall answer."""

    port: int = 0
    mails: list[Received] = field(default_factory=list)
    connections: int = 0
    answer: Callable[[Stage, str], str | None] | None = None
    """Called with the stage and the address (for DATA the sender's): a reply instead of the usual one, or `HANG_UP`."""
    credentials: tuple[str, str] | None = None
    protocols: list["_Protocol"] = field(default_factory=list)

    def hang_up(self) -> None:
        """Lose all connections."""
        for protocol in self.protocols:
            protocol.abort()

    async def handle_MAIL(self, server: Any, _session: Session, envelope: Envelope, address: str, _: Any) -> str:  # noqa: N802
        """Take or refuse a sender."""
        envelope.mail_from = address
        return self._reply(server, "MAIL", address, "250 OK")

    async def handle_RCPT(self, server: Any, _session: Session, envelope: Envelope, address: str, _: Any) -> str:  # noqa: N802
        """Take or refuse a recipient."""
        reply = self._reply(server, "RCPT", address, "250 OK")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take or refuse a mail. One that was taken is kept even if the connection is lost then."""
        reply = self._reply(server, "DATA", str(envelope.mail_from), "250 OK, it is ours now")
        if reply.startswith(("2", HANG_UP)):
            assert isinstance(envelope.content, bytes)
            login: object = session.auth_data
            self.mails.append(
                Received(
                    sender=str(envelope.mail_from),
                    recipients=tuple(envelope.rcpt_tos),
                    content=envelope.content,
                    connection=server.number,
                    tls=session.ssl is not None or server.from_first_byte,
                    user=login.login.decode() if isinstance(login, LoginPassword) else None,
                )
            )
        return reply

    def check_login(
        self, _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        """Let in who has the credentials."""
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else None
        right = given == self.credentials
        return AuthResult(success=right, handled=right, auth_data=data)

    def _reply(self, server: "_Protocol", stage: Stage, address: str, usual: str) -> str:
        reply = self.answer(stage, address) if self.answer is not None else None
        if reply == HANG_UP:
            server.abort()
        return reply or usual


class _Protocol(SMTP):
    """One connection. Knows its number, and how to end."""

    def __init__(self, sink: Sink, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a password is taken without TLS is what a test may want
            super().__init__(sink, **options)
        self.number = 0
        self.from_first_byte = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, once: STARTTLS makes it a second time."""
        if not self.number:
            sink: Sink = self.event_handler
            sink.connections += 1
            sink.protocols.append(self)
            self.number = sink.connections
            self.from_first_byte = transport.get_extra_info("sslcontext") is not None
        super().connection_made(transport)

    def abort(self) -> None:
        """Lose the connection, without a word."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


@asynccontextmanager
async def mail_server(
    *,
    tls: Literal["none", "starttls", "tls"] = "none",
    context: ssl.SSLContext | None = None,
    credentials: tuple[str, str] | None = None,
    port: int = 0,
) -> AsyncIterator[Sink]:
    """A mail server on 127.0.0.1; `credentials` makes it insist on a login."""
    sink = Sink(credentials=credentials)
    options: dict[str, Any] = {
        "hostname": "sink.test",
        "tls_context": context if tls == "starttls" else None,
        "require_starttls": tls == "starttls",
        "auth_required": credentials is not None,
        "auth_require_tls": False,
        "authenticator": sink.check_login,
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Protocol(sink, loop=loop, **options),
        "127.0.0.1",
        port,
        ssl=context if tls == "tls" else None,
    )
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        sink.hang_up()
        await server.wait_closed()


def tls_contexts(name: str = "localhost") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `name`, and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
