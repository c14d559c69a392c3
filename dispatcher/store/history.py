"""Reads events, deliveries and attempts for people; workers have their own ways in `outbox` and `deliveries`.

Instants are aware datetimes in UTC here, because all of it ends in text.
"""

from dataclasses import dataclass
from datetime import datetime

from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, Shard


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as it stands in the outbox."""

    id: EventId
    tenant: str
    event_type: str
    payload: str
    """The JSON text as inserted."""
    occurred_at: datetime
    inserted_at: datetime
    deliver_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    ordering_key: str | None
    shard: Shard


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery, pending or finished."""

    id: DeliveryId
    tenant: str
    endpoint_id: EndpointId
    url: str
    event_id: EventId
    event_type: str | None
    """Null when the event is past retention."""
    event_at: datetime
    state: DeliveryState
    created_at: datetime
    attempts: int
    """How many were made."""
    manual: bool
    """Made by a person's retry or test."""
    due_at: datetime | None = None
    """Of a pending one; null when it waits for an earlier delivery with the same ordering key."""
    expires_at: datetime | None = None
    ordering_key: str | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    """Of a dead one: a `DeathReason`."""
    status: int | None = None
    """The last answer's, of a finished one."""
    error: str | None = None
    """The last attempt's, of a finished one."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One HTTP try of a delivery, as it was logged."""

    delivery_id: DeliveryId
    number: int
    """From 1."""
    started_at: datetime
    milliseconds: int
    outcome: str
    """`answered`, `unreachable` or `blocked`."""
    status: int | None
    verdict: str
    """`done`, `retry` or `give_up`."""
    error: str | None
    address: str | None
    next_attempt_at: datetime | None
    response_headers: tuple[tuple[str, str], ...]
    response_body: bytes | None
    response_cut: bool
