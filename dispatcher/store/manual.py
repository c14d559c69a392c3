"""Writes what people do to events and deliveries by hand: send, test, retry, cancel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import asyncpg

from dispatcher.errors import InvalidInput
from dispatcher.model import DeliveryId, EndpointId, EventId, Shard
from dispatcher.store import queries

SQL = queries.load(__file__)

_REFUSALS = {
    "outbox_tenant_1_to_255_characters_no_control_characters": (
        "tenant",
        "A tenant is 1 to 255 characters, none of them a control character.",
    ),
    "outbox_event_type_1_to_255_characters_no_control_characters": (
        "event_type",
        "An event type is 1 to 255 characters, none of them a control character, like `appointment.created`.",
    ),
    "outbox_idempotency_key_1_to_255_characters": (
        "idempotency_key",
        "An idempotency key is 1 to 255 characters; leave it out to have none.",
    ),
    "outbox_ordering_key_1_to_255_characters": (
        "ordering_key",
        "An ordering key is 1 to 255 characters; leave it out to have none.",
    ),
    "outbox_expires_at_after_deliver_at": ("expires_at", "An event must not expire before it is to be delivered."),
}
"""The outbox's constraints: field, and what to say."""


class Inserted(NamedTuple):
    """Where an event went."""

    id: EventId
    inserted_at: datetime
    shard: Shard


class OutboxRow(NamedTuple):
    """What a producer says of an event."""

    id: EventId | None
    tenant: str
    event_type: str
    payload: str
    occurred_at: datetime | None
    deliver_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    ordering_key: str | None


async def insert_event(
    connection: asyncpg.Connection,
    *,
    tenant: str,
    event_type: str,
    payload: str,
    event_id: EventId | None = None,
    occurred_at: datetime | None = None,
    deliver_at: datetime | None = None,
    expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    ordering_key: str | None = None,
) -> Inserted | None:
    """Insert an event as a producer does; None if its idempotency key was used.

    Raises InvalidInput for what the table refuses; the transaction is then good for nothing but a rollback.
    """
    with _refusals():
        row = await connection.fetchrow(
            SQL.insert_event,
            event_id,
            tenant,
            event_type,
            payload,
            occurred_at,
            deliver_at,
            expires_at,
            idempotency_key,
            ordering_key,
        )
    return None if row is None else Inserted(*row)


async def insert_events(connection: asyncpg.Connection, events: Sequence[OutboxRow]) -> list[EventId | None]:
    """Insert many events in one statement; None for those whose idempotency key was used. Raises as `insert_event`."""
    columns = [list(column) for column in zip(*events, strict=True)]
    with _refusals():
        rows = await connection.fetch(SQL.insert_events, *columns)
    return [None if row["id"] is None else EventId(row["id"]) for row in rows]


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in words what the outbox refuses."""
    try:
        yield
    except asyncpg.CheckViolationError as error:
        field, message = _REFUSALS.get(error.constraint_name or "", (None, str(error)))
        raise InvalidInput(message, field=field) from None
    except asyncpg.UniqueViolationError:
        raise InvalidInput("An event with this id was sent at this very moment.", field="id") from None
    except asyncpg.InvalidTextRepresentationError as error:
        raise InvalidInput(f"The payload is not JSON: {error.detail or error}", field="payload") from None
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError):
        raise InvalidInput("A text holds a NUL character, which Postgres cannot store. Leave it out.") from None


async def take_unread(connection: asyncpg.Connection, event: Inserted) -> bool:
    """Keep the event that this transaction has just inserted from fan-out; False if it is not there."""
    return await connection.fetchval(SQL.take_unread, event.shard, event.id) is not None


async def insert_delivery(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    event_id: EventId,
    *,
    event_at: datetime,
    now: datetime | None,
    notify: bool = False,
) -> DeliveryId:
    """Make a pending delivery that is due at once, whatever the endpoint is subscribed to; returns its id.

    `notify`: a notice shall follow if it fails, though it is made by hand.
    """
    return DeliveryId(await connection.fetchval(SQL.insert_delivery, endpoint_id, event_id, event_at, now, notify))


async def make_due(
    connection: asyncpg.Connection,
    delivery_id: DeliveryId,
    shard: Shard,
    *,
    now: datetime | None,
    notify: bool = False,
) -> bool:
    """Let a pending delivery be due at once; False if it is not pending any more, or waits for an earlier one."""
    return await connection.fetchval(SQL.make_due, delivery_id, shard, now, notify) is not None


async def cancel(
    connection: asyncpg.Connection, delivery_id: DeliveryId, shard: Shard, *, now: datetime | None
) -> bool:
    """Give up a pending delivery; False if it is not pending any more. `deliveries.promote` is left to the caller."""
    return await connection.fetchval(SQL.cancel, delivery_id, shard, now) is not None
