"""The mailer: what is sent, over which connection, and what a failure means."""

import asyncio
import inspect
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.mailer import (
    IDLE_SECONDS,
    MailRefused,
    MailUnavailable,
    SmtpMailer,
    check_email,
    compose,
    message_id,
    translated,
)
from support.mail import HANG_UP, Sink, Stage, mail_server, tls_contexts

MAIL = UUID("019b76da-a800-7000-8000-000000000001")
DATE = datetime(2026, 1, 1, 10, 0, 5, tzinfo=UTC)


def mail(
    *,
    sender: str = "Webhooks <webhooks@example.com>",
    recipient: str = "ops@example.org",
    subject: str = "[dispatcher] 3 deliveries to https://example.org/hook were given up",
    text: str = "Three.\n",
    unsubscribe: str | None = None,
) -> EmailMessage:
    """A mail that any server takes."""
    return compose(
        message_id=message_id(MAIL, sender=sender),
        sender=sender,
        recipient=recipient,
        subject=subject,
        text=text,
        html="<p>Three.</p>\n",
        date=DATE,
        unsubscribe=unsubscribe,
    )


def test_headers_are_complete() -> None:
    """A mail says who, to whom, what, when, and that no person wrote it."""
    message = mail()

    assert {name: str(value) for name, value in message.items()} == {
        "From": "Webhooks <webhooks@example.com>",
        "To": "ops@example.org",
        "Subject": "[dispatcher] 3 deliveries to https://example.org/hook were given up",
        "Date": "Thu, 01 Jan 2026 10:00:05 +0000",
        "Message-ID": f"<{MAIL}@example.com>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_{MAIL}"',
    }


def test_text_comes_before_html() -> None:
    """Readers that show the first part they understand show the text."""
    parts = [part.get_content_type() for part in mail().iter_parts()]

    assert parts == ["text/plain", "text/html"]


def test_the_same_arguments_give_the_same_mail() -> None:
    """A second try cannot be told from the first."""
    assert mail().as_bytes() == mail().as_bytes()


@pytest.mark.parametrize(
    "address",
    ["https://example.com/unsubscribe?id=1", "mailto:stop@example.com"],
    ids=["https", "mailto"],
)
def test_unsubscribe_is_offered_if_there_is_a_way(address: str) -> None:
    """List-Unsubscribe carries the URL in angle brackets (RFC 2369)."""
    assert mail(unsubscribe=address)["List-Unsubscribe"] == f"<{address}>"


@pytest.mark.parametrize("domain", ["example.com", "a-rather-long-name-of-a-machine.department.example.com"])
def test_a_long_message_id_is_not_folded(domain: str) -> None:
    """What a server reads as Message-ID is what was meant."""
    content = mail(sender=f"webhooks@{domain}").as_bytes()

    assert f"Message-ID: <{MAIL}@{domain}>\r\n".encode() in content


def test_a_sender_without_domain_still_gives_a_message_id() -> None:
    """Message-ID needs a right-hand side."""
    assert message_id(MAIL, sender="dispatcher") == f"<{MAIL}@localhost>"


@pytest.mark.parametrize(
    "text",
    ["a\r\nBcc: evil@example.net", "a\nBcc: x", "a\rBcc: x", "a\0b", "a\x85Bcc: x", "a\u2028Bcc: x", "a\x0bBcc: x"],
)
def test_data_starts_no_header(text: str) -> None:
    """No line end in a subject or sender begins a header of its own."""
    content = mail(subject=text, unsubscribe=f"mailto:{text}").as_bytes()

    head = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert not [line for line in head if line.lower().startswith(b"bcc")]


@given(st.text(max_size=400))
def test_any_subject_survives(subject: str) -> None:
    """Whatever is in a subject, the mail can be written, and has the headers it should have, no more."""
    try:
        subject.encode()
    except UnicodeEncodeError:
        subject = ""
    message = mail(subject=subject)

    head = message.as_bytes().partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in head]
    assert sorted(names) == sorted(message.keys())


@pytest.mark.parametrize(
    "recipient", ["", "nobody", "a@b\r\nBcc: c@d", "a b@example.com", "<a@example.com>", "ä@example.com"]
)
def test_no_mail_is_composed_for_a_bad_address(recipient: str) -> None:
    """A recipient that is no address is refused like one that the server refuses."""
    with pytest.raises(MailRefused):
        mail(recipient=recipient)


@pytest.mark.parametrize("sender", ["nobody", "", "Example, Inc <webhooks@example.com>", "a@b@c"])
def test_a_bad_sender_gives_up_no_mail(sender: str) -> None:
    """It is a mistake in the configuration, so mails wait until it is mended."""
    with pytest.raises(MailUnavailable, match=r"\[smtp\] sender") as failure:
        mail(sender=sender)

    assert failure.value.server


@pytest.mark.parametrize("sender", ["Müller & Söhne <webhooks@example.com>", '"Example, Inc" <webhooks@example.com>'])
async def test_senders_may_have_any_name(sender: str) -> None:
    """The name survives, the address is the envelope's."""
    async with mail_server() as sink:
        mailer = SmtpMailer("127.0.0.1", sink.port)
        await mailer.send(mail(sender=sender))
        await mailer.close()

    [received] = sink.mails
    assert received.sender == "webhooks@example.com"
    assert received.message["From"].addresses[0].display_name == sender.rpartition(" ")[0].strip('"')


@pytest.mark.parametrize(
    "address",
    [
        "ops@example.com",
        "first.last+tag@sub.example.co.uk",
        "o'neil@example.com",
        "root@localhost",
        "x@xn--bcher-kva.example",
    ],
)
def test_addresses_in_use_are_taken(address: str) -> None:
    """An address comes back as it was given."""
    assert check_email(address, "notificationEmail") == address


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="empty"),
        pytest.param("ops", id="no at"),
        pytest.param("@example.com", id="no local part"),
        pytest.param("ops@", id="no domain"),
        pytest.param("a@b@example.com", id="two ats"),
        pytest.param("ops@example..com", id="empty label"),
        pytest.param("ops@-example.com", id="label begins with a hyphen"),
        pytest.param(".ops@example.com", id="dot first"),
        pytest.param("o..ps@example.com", id="two dots"),
        pytest.param("ops @example.com", id="space"),
        pytest.param("ops@example.com\n", id="line feed at the end"),
        pytest.param("ops@example.com\r\nBcc: x@example.com", id="header"),
        pytest.param("ops@example.com,b@example.com", id="two addresses"),
        pytest.param("Ops <ops@example.com>", id="name"),
        pytest.param("ops@[127.0.0.1]", id="literal"),
        pytest.param("ops@exämple.com", id="not ASCII"),
        pytest.param("o" * 65 + "@example.com", id="local part too long"),
        pytest.param("ops@" + ".".join(["a" * 60] * 5), id="too long"),
    ],
)
def test_anything_else_is_refused(address: str) -> None:
    """The message names the field and holds no control character."""
    with pytest.raises(InvalidInput) as refusal:
        check_email(address, "notificationEmail")

    assert refusal.value.field == "notificationEmail"
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("encryption", ["none", "starttls", "tls"])
async def test_a_mail_arrives(encryption: str) -> None:
    """Plain, after STARTTLS and with TLS from the first byte; encrypted exactly if it was asked for."""
    server_context, client_context = tls_contexts()
    async with mail_server(tls=encryption, context=server_context) as sink:  # type: ignore[arg-type]
        mailer = SmtpMailer("localhost", sink.port, tls=encryption, ssl_context=client_context)  # type: ignore[arg-type]

        await mailer.send(mail(text="Grüße\n.\n..\nFrom me\n" + "x" * 2000 + "\n"))
        await mailer.close()

    [received] = sink.mails
    assert (received.sender, received.recipients) == ("webhooks@example.com", ("ops@example.org",))
    assert received.tls == (encryption != "none")
    body = received.message.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == "Grüße\n.\n..\nFrom me\n" + "x" * 2000 + "\n"


async def test_it_logs_in() -> None:
    """User and password are given to a server that wants them."""
    async with mail_server(credentials=("dispatcher", "correct")) as sink:
        mailer = SmtpMailer("127.0.0.1", sink.port, username="dispatcher", password="correct")

        await mailer.send(mail())
        await mailer.close()

    assert [received.user for received in sink.mails] == ["dispatcher"]


async def fails(sink: Sink, **options: object) -> MailUnavailable | MailRefused:
    """Send a mail that does not go through."""
    mailer = SmtpMailer("localhost", sink.port, **options)  # type: ignore[arg-type]
    with pytest.raises((MailUnavailable, MailRefused)) as failure:
        await mailer.send(mail())
    await mailer.close()
    error = failure.value
    assert isinstance(error, MailUnavailable | MailRefused)
    return error


async def test_a_wrong_password_is_the_servers_trouble() -> None:
    """The operator can mend it, so no mail is given up; the password is in no message."""
    async with mail_server(credentials=("dispatcher", "correct")) as sink:
        error = await fails(sink, username="dispatcher", password="wrong-secret")

    assert isinstance(error, MailUnavailable)
    assert error.server
    assert "wrong-secret" not in str(error)


async def test_a_missing_login_is_the_servers_trouble() -> None:
    """530 to MAIL or RCPT says nothing about this mail."""
    async with mail_server(credentials=("dispatcher", "correct")) as sink:
        error = await fails(sink)

    assert isinstance(error, MailUnavailable)
    assert error.server


async def test_starttls_is_insisted_on() -> None:
    """A server (or somebody on the way) that does not offer it gets no mail."""
    _, client_context = tls_contexts()
    async with mail_server() as sink:
        error = await fails(sink, tls="starttls", ssl_context=client_context)

    assert isinstance(error, MailUnavailable)
    assert sink.mails == []


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
async def test_certificates_are_checked(encryption: str, name: str) -> None:
    """An unknown authority or another name is as good as no encryption: no mail."""
    server_context, trusting = tls_contexts(name)
    _, ignorant = tls_contexts()
    async with mail_server(tls=encryption, context=server_context) as sink:  # type: ignore[arg-type]
        error = await fails(sink, tls=encryption, ssl_context=ignorant if name == "localhost" else trusting)

    assert isinstance(error, MailUnavailable)
    assert error.server
    assert sink.mails == []


async def test_nobody_listens() -> None:
    """A refused connection is temporary."""
    async with mail_server() as sink:
        pass

    error = await fails(sink)

    assert isinstance(error, MailUnavailable)
    assert error.server


async def test_a_server_that_says_nothing_is_left() -> None:
    """The time-out ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        mailer = SmtpMailer("127.0.0.1", listening.getsockname()[1], timeout=0.05)

        with pytest.raises(MailUnavailable, match="Timed out") as failure:
            await mailer.send(mail())

    assert failure.value.server


def answering(reply: str, *, stage: Stage) -> Callable[[Stage, str], str | None]:
    """A server that answers one stage with `reply`."""
    return lambda at, _: reply if at == stage else None


@pytest.mark.parametrize(
    "stage, reply, kind, server",
    [
        ("MAIL", "451 Try later", MailUnavailable, True),
        ("MAIL", "550 Sender not allowed", MailUnavailable, True),
        ("MAIL", "421 Closing", MailUnavailable, True),
        ("RCPT", "450 Greylisted", MailUnavailable, False),
        ("RCPT", "452 Mailbox full", MailUnavailable, False),
        ("RCPT", "550 No such user", MailRefused, None),
        ("RCPT", "530 Log in first", MailUnavailable, True),
        ("RCPT", "421 Closing", MailUnavailable, True),
        ("DATA", "451 Try later", MailUnavailable, False),
        ("DATA", "554 Looks like spam", MailRefused, None),
        ("DATA", HANG_UP, MailUnavailable, True),
    ],
)
async def test_what_a_reply_means(stage: Stage, reply: str, kind: type[Exception], *, server: bool | None) -> None:
    """5xx of the recipient or the content is for good; anything else is temporary."""
    async with mail_server() as sink:
        sink.answer = answering(reply, stage=stage)
        error = await fails(sink)

    assert type(error) is kind
    assert getattr(error, "server", None) is server
    if reply != HANG_UP:
        assert str(error) == reply


async def test_a_batch_shares_a_connection() -> None:
    """Also across a mail that is refused."""
    async with mail_server() as sink:
        mailer = SmtpMailer("127.0.0.1", sink.port)
        await mailer.send(mail())
        sink.answer = answering("550 No such user", stage="RCPT")
        with pytest.raises(MailRefused):
            await mailer.send(mail())
        sink.answer = None

        await mailer.send(mail())
        await mailer.close()

    assert [received.connection for received in sink.mails] == [1, 1]


async def test_a_connection_that_died_meanwhile_is_made_anew() -> None:
    """The server closed it between two mails: nobody notices."""
    async with mail_server() as sink:
        mailer = SmtpMailer("127.0.0.1", sink.port)
        await mailer.send(mail())
        sink.answer = lambda _stage, _address: HANG_UP if sink.connections == 1 else None

        await mailer.send(mail())
        await mailer.close()

    assert [received.connection for received in sink.mails] == [1, 2]


async def test_an_unused_connection_is_closed() -> None:
    """A timer ends it; the next mail opens another."""
    async with mail_server() as sink:
        mailer = SmtpMailer("127.0.0.1", sink.port)
        await mailer.send(mail())
        assert mailer._closing is not None
        when = mailer._closing.when()
        mailer._closing._run()

        await mailer.send(mail())
        await mailer.close()

    assert when <= asyncio.get_running_loop().time() + IDLE_SECONDS
    assert [received.connection for received in sink.mails] == [1, 2]


def library_errors() -> list[Exception]:
    """One of each that the library can raise."""
    samples: dict[int, tuple[object, ...]] = {1: ("x",), 2: (450, "x"), 3: (550, "x", "a@example.com")}
    found: list[Exception] = []
    for name in aiosmtplib.errors.__all__:
        kind = getattr(aiosmtplib.errors, name)
        if kind is aiosmtplib.SMTPRecipientsRefused:
            found.append(kind([aiosmtplib.SMTPRecipientRefused(550, "x", "a@example.com")]))
        else:
            found.append(kind(*samples[len(inspect.signature(kind.__init__).parameters) - 1]))
    return found


@pytest.mark.parametrize(
    "error",
    [
        *library_errors(),
        OSError("x"),
        TimeoutError(),
        ConnectionResetError("x"),
        ValueError("x"),
        UnicodeEncodeError("ascii", "ä", 0, 1, "x"),
        RuntimeError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_foreign_error_slips_through(error: Exception) -> None:
    """Whatever the library raises becomes one of our two, with words in it."""
    ours = translated(error)

    assert isinstance(ours, MailRefused | MailUnavailable)
    assert str(ours)
