"""The shapes of events, what became of them, and of event types."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field

from dispatcher.api.models.base import AttemptState, Given, Instant, Shown


class NewEvent(Given):
    """An event to be sent."""

    event_type: Annotated[str, Field(alias="type", min_length=1, max_length=255, examples=["PATIENT_CREATED"])]
    payload: Annotated[Any, Field(description="Any JSON; goes out as it is written here.")]
    id: Annotated[UUID | None, Field(description="`webhook-id` on the wire; else one is made.")] = None
    occurred_at: Annotated[Instant | None, Field(alias="occurredDate", description="When it happened; null: now.")] = (
        None
    )
    deliver_at: Annotated[
        Instant | None, Field(alias="deliverDate", description="Not to be sent before; null: at once.")
    ] = None
    expires_at: Annotated[
        Instant | None, Field(alias="expiresDate", description="Of no use afterwards; null: never.")
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(min_length=1, max_length=255, description="A second event with it within 24 hours is skipped."),
    ] = None
    ordering_key: Annotated[
        str | None,
        Field(min_length=1, max_length=255, description="Events with it reach a webhook one after the other."),
    ] = None


class EventBatch(Given):
    """Events to be sent together: all of them, or none."""

    events: Annotated[list[NewEvent], Field(min_length=1, max_length=1000)]


class SentEvent(Shown):
    """An event that is committed."""

    id: Annotated[UUID | None, Field(description="Null if it was skipped.")]
    is_duplicate: Annotated[bool, Field(description="Skipped: its idempotency key was used within the last 24 hours.")]


class SentEvents(Shown):
    """Events that are committed, in the order in which they were given."""

    events: list[SentEvent]


class Event(Shown):
    """An event."""

    deliver_date: datetime | None
    expires_date: datetime | None
    id: UUID
    idempotency_key: str | None
    inserted_date: datetime
    occurred_date: datetime
    ordering_key: str | None
    payload: Any
    refused_date: Annotated[datetime | None, Field(description="When the catalogue refused it; null: it did not.")]
    refused_reason: str | None
    tenant: str
    type: str


class EventDelivery(Shown):
    """A delivery of an event to a webhook."""

    attempt_count: int
    created_date: datetime
    due_date: datetime | None
    event_id: UUID
    event_type: str | None
    expires_date: datetime | None
    finished_date: datetime | None
    id: int
    is_manual: bool
    last_error: str | None
    last_status: int | None
    ordering_key: str | None
    reason: str | None
    state: AttemptState
    tenant: str
    url: str
    webhook_id: UUID


class Finding(Shown):
    """What became of an event at one webhook, and why."""

    cause: Annotated[
        str | None,
        Field(
            examples=["paused", "retry", "blocked", "expired", "exhausted", None],
            description="What holds a delivery that waits, or has ended it; null: `finding` says all.",
        ),
    ]
    deliveries: Annotated[list[EventDelivery], Field(description="The newest first.")]
    finding: Annotated[str, Field(examples=["delivered", "waiting", "dead", "not_subscribed", "filtered", "disabled"])]
    next_attempt_date: datetime | None
    url: str
    webhook_id: UUID
    why: str


class Explanation(Shown):
    """What became of an event."""

    endpoints: list[Finding]
    event: Event
    summary: str


class EventTypeShown(Shown):
    """An event type of the catalogue."""

    model_config = ConfigDict(title="EventType")

    aliases: Annotated[list[str], Field(description="Other names, for subscriptions.")]
    deprecated: Annotated[str | None, Field(description="Why it should not be used any more; null: it may.")]
    description: str | None
    name: str
    summary: str | None
    tags: list[str]


class EventTypes(Shown):
    """The catalogue's event types."""

    event_types: list[EventTypeShown]
