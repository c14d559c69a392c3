"""Put a mail together and hand it to the mail server. What to say, to whom and when is for others to know.

Everything the SMTP library and the network can raise leaves here as `MailRefused` or `MailUnavailable`.
"""

import asyncio
import re
import ssl
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from typing import Final, Literal, Protocol
from uuid import UUID

import aiosmtplib
import tenacity

from dispatcher.errors import InvalidInput

ADDRESS_LIMIT: Final = 254
"""Characters of an address that fit into an SMTP path (RFC 5321 section 4.5.3.1.3, RFC 3696 erratum 1690)."""

LOCAL_PART_LIMIT: Final = 64
"""Characters before the @ (RFC 5321 section 4.5.3.1.1)."""

REPLY_LIMIT: Final = 300
"""Characters of a server's reply that are kept: the first line says it."""

IDLE_SECONDS: Final = 5.0
"""How long an unused connection is kept for the next mail of a batch; servers grant minutes."""

COMMANDS: Final = 4
"""A whole mail may take so many times the time-out of one command, counting from the connection."""

PERMANENT: Final = range(500, 600)
UNAUTHENTICATED: Final = frozenset({530, 534, 535, 538})
"""Replies that mean that our credentials are wrong or missing (RFC 4954), whichever command they answer."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")


class MailRefused(Exception):
    """The mail server will never take this mail for this recipient; trying again is pointless."""


class MailUnavailable(Exception):
    """The mail could not be handed over now; later it may well be.

    `server` is true if the fault lies with the server or its configuration, so that other mails will fare no better.
    """

    def __init__(self, message: str, *, server: bool) -> None:
        super().__init__(message)
        self.server = server


class Mailer(Protocol):
    """Hands mails over, one at a time."""

    async def send(self, message: EmailMessage) -> None:
        """Return once the server has taken responsibility for `message`. Raises MailRefused, MailUnavailable."""


def check_email(address: str, field: str) -> str:
    """Return an address that mail can be sent to; raises InvalidInput, naming `field`, for anything else.

    Takes what people use (RFC 5321 `Dot-string@Domain`): no quoted local parts, no address literals, ASCII only. A
    domain of one label is fine inside a network.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or len(address) > ADDRESS_LIMIT or len(match["local"]) > LOCAL_PART_LIMIT:
        shown = "".join(character if character.isprintable() else "?" for character in address[:100])
        raise InvalidInput(
            f"`{shown}` is not an e-mail address that mail can be sent to. Write it like name@example.com, without "
            f"spaces, in at most {ADDRESS_LIMIT} ASCII characters.",
            field=field,
        )
    return address


def message_id(mail_id: UUID, *, sender: str) -> str:
    """Return the Message-ID of a mail: the same for every try, so that a duplicate can be told."""
    return f"<{mail_id}@{_address_of(sender).rpartition('@')[2]}>"


def compose(
    *,
    message_id: str,
    sender: str,
    recipient: str,
    subject: str,
    text: str,
    html: str,
    date: datetime,
    unsubscribe: str | None = None,
) -> EmailMessage:
    """Put a mail together: text first, HTML as the alternative. The same arguments give the same mail.

    `sender` may carry a name (`Webhooks <webhooks@example.com>`); `unsubscribe` is a mailto: or https: URL. Raises
    MailRefused if `recipient` is no address, MailUnavailable if `sender` is none: the operator can mend that.
    """
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = _checked_sender(sender)
    message["To"] = _checked_recipient(recipient)
    message["Subject"] = _one_line(subject)
    message["Date"] = format_datetime(date.astimezone(UTC))
    message["Message-ID"] = _one_line(message_id)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notes, please
    message["X-Auto-Response-Suppress"] = "All"  # Exchange's spelling of the same
    if unsubscribe is not None:
        message["List-Unsubscribe"] = f"<{_one_line(unsubscribe)}>"
    # no Precedence: bulk, which sorts a warning in with advertisements
    message.set_content(text, cte="quoted-printable")  # servers without 8BITMIME take it, and lines stay short
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    # a boundary is random by default; a second try is to be the same mail
    message.set_boundary(f"=_{_one_line(message_id).strip('<>').partition('@')[0]}")
    return message


def _checked_recipient(recipient: str) -> str:
    try:
        return check_email(recipient, "recipient")
    except InvalidInput as error:
        raise MailRefused(str(error)) from error


def _checked_sender(sender: str) -> Address:
    name, address = parseaddr(_one_line(sender))
    try:
        return Address(display_name=name, addr_spec=check_email(address, "sender"))
    except InvalidInput as error:
        raise MailUnavailable(f"`[smtp] sender` cannot be used: {error}", server=True) from error


def _address_of(sender: str) -> str:
    address = parseaddr(_one_line(sender))[1]
    return address if "@" in address else f"{address or 'dispatcher'}@localhost"


def _one_line(text: str) -> str:
    """Make a header's value of data: control characters, line ends above all, would start a header of their own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


class SmtpMailer:
    """Speaks SMTP to one server, one mail at a time, and keeps the connection for a while.

    `tls`: `none`, `starttls` (insist on the upgrade) or `tls` (from the first byte). `timeout`: seconds for the
    connection and for each answer. `ssl_context` replaces the machine's trusted certificates.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: Literal["none", "starttls", "tls"] = "none",
        timeout: float = 20.0,
        ssl_context: ssl.SSLContext | None = None,
        local_hostname: str | None = None,
    ) -> None:
        self._client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            username=username,
            password=password,
            use_tls=tls == "tls",
            start_tls=tls == "starttls",  # never None, which upgrades only if nobody on the way objects
            timeout=timeout,
            tls_context=None if tls == "none" else ssl_context or ssl.create_default_context(),
            local_hostname=local_hostname,
        )
        self._deadline = timeout * COMMANDS
        self._lock = asyncio.Lock()
        self._closing: asyncio.TimerHandle | None = None

    async def send(self, message: EmailMessage) -> None:
        """Return once the server has taken responsibility for `message`. Raises MailRefused, MailUnavailable."""
        async with self._lock:
            self._stay_open()
            try:
                async with asyncio.timeout(self._deadline):
                    await self._patiently(message)
            except Exception as error:
                if not isinstance(error, aiosmtplib.SMTPResponseException | aiosmtplib.SMTPRecipientsRefused):
                    self._client.close()  # in the middle of a dialogue: nobody knows what comes next on this connection
                raise translated(error) from error
            except asyncio.CancelledError:
                self._client.close()
                raise
            finally:
                if self._client.is_connected:
                    self._closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._client.close)

    async def close(self) -> None:
        """Take leave of the server, if connected."""
        async with self._lock:
            self._stay_open()
            if self._client.is_connected:
                try:
                    await self._client.quit()
                except (aiosmtplib.SMTPException, OSError):
                    pass  # it has gone already
                finally:
                    self._client.close()

    def _stay_open(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    async def _patiently(self, message: EmailMessage) -> None:
        """Try a second time, on a new connection, if the one kept open turns out to be dead."""
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Stale),
            stop=tenacity.stop_after_attempt(2),
            wait=tenacity.wait_none(),
            reraise=True,
        ):
            with attempt:
                await self._hand_over(message)

    async def _hand_over(self, message: EmailMessage) -> None:
        kept = self._client.is_connected
        if not kept:
            await self._client.connect()
        try:
            await self._client.send_message(message)
        except (aiosmtplib.SMTPServerDisconnected, ConnectionError) as error:
            if not kept:
                raise
            self._client.close()
            raise _Stale(str(error)) from error


class _Stale(aiosmtplib.SMTPServerDisconnected):
    """A connection that was kept open is dead."""


def translated(error: Exception) -> MailRefused | MailUnavailable:
    """Say what a failure of SMTP or the network means.

    Refused for good is only what the server says with 5xx of a recipient or the content. 5xx of the greeting, the sender
    or the login can be mended by the operator, and then every mail goes through.
    """
    match error:
        case MailRefused() | MailUnavailable():
            return error
        case aiosmtplib.SMTPRecipientsRefused():
            replies = [translated(reply) for reply in error.recipients]
            temporary = next((reply for reply in replies if isinstance(reply, MailUnavailable)), None)
            return temporary or MailRefused("; ".join(str(reply) for reply in replies))
        case aiosmtplib.SMTPRecipientRefused() | aiosmtplib.SMTPDataError():
            if error.code in PERMANENT and error.code not in UNAUTHENTICATED:
                return MailRefused(_reply(error))
            going = error.code == aiosmtplib.SMTPStatus.domain_unavailable
            return MailUnavailable(_reply(error), server=going or error.code in UNAUTHENTICATED)
        case aiosmtplib.SMTPResponseException():
            return MailUnavailable(_reply(error), server=True)
        case aiosmtplib.SMTPException() | OSError() | TimeoutError():
            said = str(error.message) if isinstance(error, aiosmtplib.SMTPException) else str(error)
            return MailUnavailable(_short(said or "no answer in time"), server=True)
        case ValueError() | MessageError():  # the library found it impossible (but a bad certificate, above, is both)
            return MailRefused(f"it cannot be sent as it is: {_short(str(error))}")
        case _:
            return MailUnavailable(_short(f"{type(error).__name__}: {error}"), server=True)


def _reply(error: aiosmtplib.SMTPResponseException) -> str:
    return _short(f"{error.code} {error.message}")


def _short(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= REPLY_LIMIT else line[: REPLY_LIMIT - 1] + "…"
