"""An `Admin` on a test database, and what a worker would have done, as rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin, NewEvent, WebhookDraft
from dispatcher.clock import Clock
from dispatcher.model import DeliveryId, EndpointId, EventId
from dispatcher.sealing import Sealer
from dispatcher.store import outbox
from dispatcher.store.pool import open_pool

URL = "https://example.com/hook"


@asynccontextmanager
async def open_admin(url: str, *, sealer: Sealer | None = None, clock: Clock | None = None) -> AsyncIterator[Admin]:
    """Open a pool of its own for an `Admin` with the rules of the default configuration."""
    pool = await open_pool(url, maximum=2)
    try:
        yield Admin(pool, sealer=sealer or Sealer(), policy=AddressPolicy(), clock=clock)
    finally:
        await pool.close()


async def make_webhook(admin: Admin, tenant: str = "acme", *subscriptions: str, **fields: Any) -> EndpointId:
    """Create a webhook, and its tenant if need be; without subscriptions it gets all."""
    if tenant not in {known.name for known in await admin.list_tenants()}:
        await admin.create_tenant(tenant)
    draft = WebhookDraft(url=URL, subscriptions=subscriptions or ("*",), **fields)
    return (await admin.create_webhook(tenant, draft)).id


async def send(admin: Admin, tenant: str = "acme", event_type: str = "appointment.created", **fields: Any) -> EventId:
    """Insert an event."""
    event_id = await admin.send_event(NewEvent(tenant=tenant, event_type=event_type, payload="{}", **fields))
    assert event_id is not None
    return event_id


async def fan_out(connection: Any) -> None:
    """Do what the owner of all shards does with unread events."""
    rows = await connection.fetch("select shard, position from dispatcher.outbox_unread")
    if rows:
        columns = [row["shard"] for row in rows], [row["position"] for row in rows]
        async with connection.transaction():
            await connection.fetch(outbox.SQL.fan_out_ordered, *columns, None, *outbox.columns_of(None))


async def pending_of(connection: Any, event_id: UUID) -> DeliveryId:
    """The one pending delivery of an event."""
    return DeliveryId(await connection.fetchval("select id from dispatcher.deliveries where event_id = $1", event_id))


async def attempt(connection: Any, delivery_id: int, *, status: int, next_in: float | None = None) -> None:
    """Log an attempt and move the delivery as a worker would: done for 2xx, retried in `next_in` seconds, or dead."""
    done = 200 <= status <= 299
    verdict = "done" if done else "retry" if next_in is not None else "give_up"
    async with connection.transaction():
        await connection.execute(
            """
            insert into dispatcher.attempts
              (delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict,
               address, next_attempt_at, response_headers, response_body, response_cut)
            select id, endpoint_id, event_id, now(), 12, attempts + 1, shard, 'answered', $2, $3,
              '192.0.2.1:443', now() + make_interval(secs => $4), '[["Server","test"]]', 'answer', false
            from dispatcher.deliveries where id = $1
            """,
            delivery_id,
            status,
            verdict,
            next_in,
        )
        if verdict == "retry":
            await connection.execute(
                "update dispatcher.deliveries set attempts = attempts + 1, due_at = now() + make_interval(secs => $2) "
                "where id = $1",
                delivery_id,
                next_in,
            )
            return
        await connection.execute(
            """
            with gone as (delete from dispatcher.deliveries where id = $1 returning *)
            insert into dispatcher.finished_deliveries
              (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status)
            select id, endpoint_id, event_id, event_at, created_at, clock_timestamp(), shard, attempts + 1, manual, $2, $3, $4
            from gone
            """,
            delivery_id,
            "delivered" if done else "dead",
            None if done else "exhausted",
            status,
        )
