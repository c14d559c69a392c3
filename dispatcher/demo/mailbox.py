"""A mail server that keeps what it is given, for the demo: SMTP on loopback, and nothing leaves it."""

import logging
import socket
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from typing import Any

from dispatcher.errors import ConfigError


class Mailbox:
    """Mails in the order in which they came; `on_mail` is told of each."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.on_mail: Callable[[EmailMessage], None] = _ignore

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        message = message_from_bytes(envelope.content, policy=SMTP_POLICY)
        assert isinstance(message, EmailMessage)  # what the policy makes
        self.mails.append(message)
        self.on_mail(message)
        return "250 OK"


def _ignore(_: EmailMessage) -> None:
    pass


@asynccontextmanager
async def receiving(mailbox: Mailbox, listener: socket.socket) -> AsyncIterator[None]:
    """Take mails on a socket that listens already."""
    try:
        from aiosmtpd.smtp import SMTP
    except ImportError:
        raise ConfigError(
            "The demo's mail server is not installed. Install what the demo needs: pip install 'dispatcher[embedded]'"
        ) from None
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's; it says every line of the dialogue
    loop = get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, hostname="mail.demo.example", loop=loop), sock=listener)
    try:
        yield
    finally:
        server.close()
