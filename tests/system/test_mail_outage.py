"""A mail server that is away for the whole of a death wave: nothing else is hurt, and every notice arrives, folded."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog

from support.latency import measure
from support.mail import Sink, mail_server
from support.receiver import Behaviour, Receiver, answer
from support.world import finished, insert_events, make_endpoint, until, working

logger = structlog.get_logger()

WAVE = 10_000
"""Deaths of one endpoint. It answers 404, which kills as well as 500 does, but many at a time: a harder wave."""

WARMING = 300
"""Successes before it, after which the endpoint gets as many requests at once as one can."""

OTHERS, DEATHS = 3, 20
"""Endpoints beside it that answer 500, and the deaths of each."""

LATER = 50
"""Deaths after the mail server is back."""


async def make_doomed(connection: Any, receiver: Receiver, name: str, behaviour: Behaviour) -> UUID:
    """An endpoint whose deliveries get one attempt each."""
    receiver.on(f"/{name}", behaviour)
    return await make_endpoint(
        connection, f"{receiver.url}/{name}", tenant=name, retry_schedule=[], notification_email=f"{name}@example.com"
    )


async def dead(connection: Any) -> int:
    """How many deliveries died so far."""
    count: int = await connection.fetchval("select count(*) from dispatcher.finished_deliveries where state = 'dead'")
    return count


async def all_told(connection: Any) -> bool:
    """Whether every notice is in a mail and every mail is sent."""
    told: bool = await connection.fetchval(
        """
        select not exists (select from dispatcher.notices where mail_id is null)
          and not exists (select from dispatcher.mails where sent_at is null)
        """
    )
    return told


async def closed_port() -> int:
    """A port that nobody listens on."""
    async with mail_server() as sink:
        return sink.port


def recipients(sink: Sink) -> Counter[str]:
    """How many mails each address got."""
    return Counter(address for mail in sink.mails for address in mail.recipients)


@pytest.mark.system
@pytest.mark.quiet
async def test_a_death_wave_without_a_mail_server_is_told_when_it_is_back(database: str, connection: Any) -> None:
    """Dispatch is unhurt; each endpoint gets a first mail and a digest or two, once each, and they hold every death."""
    others = [f"other{number}" for number in range(OTHERS)]
    deaths = WAVE + OTHERS * DEATHS
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        producer = await asyncpg.connect(database)
        stack.push_async_callback(producer.close)
        port = await closed_port()
        await stack.enter_async_context(
            working(
                database,
                roles=("deliver", "notify"),
                smtp__host="127.0.0.1",
                smtp__port=str(port),
                notices__digest_every="4s",
            )
        )
        await make_endpoint(connection, f"{receiver.url}/good", tenant="good")
        await make_doomed(connection, receiver, "wave", answer(204))
        await insert_events(producer, WARMING, tenant="wave")
        await finished(producer, WARMING)
        idle = await measure(connection, receiver, tenant="good")

        began = clock()
        receiver.on("/wave", answer(404, body=b"out of order"))
        await insert_events(producer, WAVE, tenant="wave")
        for name in others:
            await make_doomed(connection, receiver, name, answer(500, body=b"out of order"))
            await insert_events(producer, DEATHS, tenant=name)

        async def all_dead() -> bool:
            return await dead(producer) == deaths

        over = asyncio.ensure_future(until(all_dead, timeout=60))
        waving = await measure(connection, receiver, tenant="good", also=[over])
        await over
        rate = deaths / (clock() - began)
        unsent = await connection.fetchval("select count(*) from dispatcher.mails where sent_at is null")
        sink = await stack.enter_async_context(mail_server(port=port))
        await until(lambda: all_told(connection), timeout=60)
        first_mails = recipients(sink)
        await insert_events(producer, LATER, tenant="wave")
        deaths += LATER
        await until(all_dead)
        await until(lambda: all_told(connection), timeout=30)

    logger.info("wave.measured", idle=str(idle), waving=str(waving), deaths_per_second=round(rate))
    assert waving.unhurt(idle), f"idle: {idle}; during the wave: {waving}"
    assert unsent >= 1 + OTHERS
    assert all(1 <= first_mails[f"{name}@example.com"] <= 2 for name in others), first_mails
    assert 2 <= first_mails["wave@example.com"] <= 4
    assert 1 <= recipients(sink)["wave@example.com"] - first_mails["wave@example.com"] <= 2
    mails = await connection.fetch("select id, message_id, notices from dispatcher.mails")
    assert sorted(mail["message_id"] for mail in mails) == sorted(mail.message["Message-ID"] for mail in sink.mails)
    told = await connection.fetch("select mail_id, count(*) from dispatcher.notices group by mail_id")
    assert {row["mail_id"]: row["count"] for row in told} == {mail["id"]: mail["notices"] for mail in mails}
    assert await connection.fetchval("select count(distinct delivery_id) from dispatcher.notices") == deaths
