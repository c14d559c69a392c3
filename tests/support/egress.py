"""A sender for tests, what it sends, and what its outcomes must be.

Deadlines are short (`SOON`) where they are meant to pass and long (`AMPLE`) where they are not.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from ipaddress import ip_network
from typing import Any

import pytest
import uvloop

from dispatcher.addresses import AddressPolicy
from dispatcher.egress import Request, Sender
from dispatcher.model import Answered, Blocked, Outcome, Unreachable
from support.receiver import Behaviour, Receiver

SOON = 0.2
AMPLE = 5.0
LIMIT = 1000
"""Bytes of an answer that are read in these tests."""
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Spares each test the loading of the machine's authorities."""

Runner = Callable[[Coroutine[Any, Any, None]], None]
both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""Production runs on uvloop, which fails in its own ways; tests of failures therefore run on both."""


@contextlib.asynccontextmanager
async def sending(*allowed: Any, **settings: Any) -> AsyncIterator[Sender]:
    """A sender that may reach loopback unless told otherwise."""
    sender = Sender(
        AddressPolicy(allowed or LOOPBACK),
        **{
            "https_only": False,
            "user_agent": "tests/1",
            "answer_limit": LIMIT,
            "connect_timeout": AMPLE,
            "ssl_context": TRUSTS_NOBODY,
            **settings,
        },
    )
    try:
        yield sender
    finally:
        await sender.close()


async def post(sender: Sender, url: str, *, timeout: float = AMPLE, body: bytes = b"{}", **headers: str) -> Outcome:
    """Send a small request."""
    request = Request(url, {name.replace("_", "-"): value for name, value in headers.items()}, body, timeout)
    return await sender.send(request)


async def outcome_of(behaviour: Behaviour, *, timeout: float = AMPLE) -> Outcome:
    """Send one request to a receiver that behaves so."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/hook", behaviour)
        return await post(sender, f"{receiver.url}/hook?token=secret", timeout=timeout)


def answered(outcome: Outcome) -> Answered:
    """Insist on an answer."""
    assert isinstance(outcome, Answered), outcome
    return outcome


def blocked(outcome: Outcome) -> Blocked:
    """Insist on a refusal."""
    assert isinstance(outcome, Blocked), outcome
    return outcome


def unreachable(outcome: Outcome) -> Unreachable:
    """Insist on no answer."""
    assert isinstance(outcome, Unreachable), outcome
    assert "secret" not in outcome.detail
    assert outcome.detail.endswith((".", "?"))
    return outcome
