"""A small world to test the whole service in: rows made with plain SQL, a worker in this process, a way to wait.

async with working(database) as worker: ...
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from uuid import UUID

from dispatcher.clock import Clock
from dispatcher.configuration import load
from dispatcher.deliver.send import Sends
from dispatcher.metrics import Metrics
from dispatcher.settings import Settings
from dispatcher.store.pool import Pool
from dispatcher.worker import ROLES, Worker, open_worker_pool

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the Standard Webhooks test vectors."""


def settings_for(database: str, **variables: str) -> Settings:
    """Settings for a receiver on loopback; `egress__timeout="1s"` sets a key of a section."""
    chosen = {
        "database__url": database,
        "egress__https_only": "false",
        "egress__allow_subnets": "127.0.0.0/8",
        "retry__jitter": "0",
        "shards__lease": "2s",
        "api__listen": "127.0.0.1:0",
        "ops__listen": "127.0.0.1:0",
        "delivery__grace": "5s",
    } | variables
    return load(None, {f"DISPATCHER_{name.upper()}": value for name, value in chosen.items()})


@asynccontextmanager
async def working(
    database: str,
    *,
    roles: Sequence[str] = ROLES,
    clock: Clock | None = None,
    sender: Sends | None = None,
    metrics: Metrics | None = None,
    **variables: str,
) -> AsyncIterator[Worker]:
    """Run a worker in this process, drained in the end."""
    settings = settings_for(database, **variables)
    pool: Pool = await open_worker_pool(settings, database)
    worker = Worker(
        settings,
        database,
        pool,
        roles=roles,
        metrics=metrics or Metrics(),
        clock=clock or Clock(),
        random=Random(1),
        sender=sender,
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(grace=settings.delivery.grace)
        await pool.close()


async def make_tenant(connection: Any, name: str = "acme", *, parent: str | None = None) -> str:
    """Register a tenant."""
    await connection.execute(
        """
        insert into dispatcher.tenants (name, parent, root, shard)
        select $1, $2::text, root, dispatcher.shard_of(root)
        from (select coalesce((select root from dispatcher.tenants where name = $2), $1) as root) as tree
        on conflict do nothing
        """,
        name,
        parent,
    )
    return name


async def make_endpoint(
    connection: Any,
    url: str,
    *,
    tenant: str = "acme",
    subscriptions: Sequence[str] = ("*",),
    secrets: Sequence[str] = (SECRET,),
    **columns: Any,
) -> UUID:
    """Register an endpoint; `columns` are those of dispatcher.endpoints."""
    await make_tenant(connection, tenant)
    names = ["tenant", "url", "shard", *columns]
    shard = await connection.fetchval("select shard from dispatcher.tenants where name = $1", tenant)
    values = [tenant, url, shard, *(json.dumps(v) if isinstance(v, dict) else v for v in columns.values())]
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    endpoint_id: UUID = await connection.fetchval(
        f"insert into dispatcher.endpoints ({', '.join(names)}) values ({marks}) returning id",
        *values,
    )
    for pattern in subscriptions:
        await connection.execute(
            "insert into dispatcher.subscriptions values ($1, $2, $3)", tenant, pattern, endpoint_id
        )
    for secret in secrets:
        await connection.execute(
            "insert into dispatcher.endpoint_secrets (endpoint_id, sealed) values ($1, $2)",
            endpoint_id,
            secret.encode(),
        )
    return endpoint_id


async def insert_event(
    connection: Any,
    event_type: str = "appointment.created",
    payload: str = '{"resource_id": "67890"}',
    *,
    tenant: str = "acme",
    **columns: Any,
) -> UUID:
    """Insert an event as a producer does."""
    names = ["tenant", "event_type", "payload", *columns]
    marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    event_id: UUID = await connection.fetchval(
        f"insert into dispatcher.outbox ({', '.join(names)}) values ({marks}) returning id",
        tenant,
        event_type,
        payload,
        *columns.values(),
    )
    return event_id


async def insert_events(
    connection: Any, count: int, event_type: str = "appointment.created", *, tenant: str = "acme"
) -> None:
    """Insert many events; each payload holds its number as `n`."""
    await connection.execute(
        """
        insert into dispatcher.outbox (tenant, event_type, payload)
        select $1, $2, json_build_object('n', n) from generate_series(1, $3::integer) as n
        """,
        tenant,
        event_type,
        count,
    )


async def until(
    holds: Callable[[], Awaitable[Any]] | Callable[[], Any],
    *,
    timeout: float = 10.0,
    why: str = "what was waited for",
) -> Any:
    """Look again and again until `holds` gives something true, and return it; AssertionError after `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = holds()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{why} did not come within {timeout} s") from None


async def finished(connection: Any, count: int = 1, *, timeout: float = 10.0) -> list[Mapping[str, Any]]:
    """Wait until `count` deliveries have ended, and return them in the order of their ids."""

    async def enough() -> list[Mapping[str, Any]]:
        rows = await connection.fetch("select * from dispatcher.finished_deliveries order by id")
        return list(rows) if len(rows) >= count else []

    found: list[Mapping[str, Any]] = await until(enough, timeout=timeout, why=f"the end of {count} deliveries")
    return found
