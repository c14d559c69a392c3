"""The shapes of delivery attempts and replays."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from dispatcher.api.models.base import Asked, AttemptState, Given, Instant, QueryInstant, Shown


class AttemptsQuery(Asked):
    """Which delivery attempts to list. Times are ISO 8601, UTC unless they say otherwise."""

    event_type: Annotated[str | None, Field(description="Of this event type.")] = None
    is_delivered: Annotated[bool | None, Field(description="Only what was delivered, or only what was not.")] = None
    created_after: Annotated[QueryInstant | None, Field(description="Created at or after this time.")] = None
    created_before: Annotated[QueryInstant | None, Field(description="Created before this time.")] = None
    last_delivery_attempt_status: Annotated[
        int | None, Field(ge=100, le=999, description="The HTTP status of the last attempt.")
    ] = None
    last_delivery_attempt_error: Annotated[
        str | None,
        Field(min_length=1, max_length=255, description="A part of the last attempt's error, like `timeout`."),
    ] = None
    delivery_date_after: Annotated[QueryInstant | None, Field(description="Delivered at or after this time.")] = None
    delivery_date_before: Annotated[QueryInstant | None, Field(description="Delivered before this time.")] = None
    sort_by: Annotated[
        Literal["created_date", "delivery_date"],
        Field(description="By delivery, which leaves out what was not delivered, or by creation."),
    ] = "created_date"
    sort_direction: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Field(ge=1, le=250)] = 10
    offset: Annotated[int, Field(ge=0, le=10000, description="Skip so many; to read far, use `cursor`.")] = 0
    cursor: Annotated[
        str | None, Field(min_length=1, max_length=500, description="`nextCursor` of the page before.")
    ] = None


class SendQuery(Asked):
    """How to send by hand."""

    notify_failure: Annotated[bool, Field(description="Mail `notificationEmail` if it fails.")] = False


class DeliveryAttempt(Shown):
    """An event on its way to a webhook, with what its last attempt came to."""

    alert_id: Annotated[UUID, Field(description="The event's id, `webhook-id` on the wire.")]
    attempt_count: Annotated[int, Field(description="Requests that were made.")]
    created_date: datetime
    data: Annotated[Any, Field(description="The event's payload; null once it is past retention.")]
    delivered_date: Annotated[datetime | None, Field(description="Null: not delivered.")]
    due_date: Annotated[datetime | None, Field(description="When a pending one is tried next; null if it waits.")]
    event_id: UUID
    id: Annotated[str, Field(description="With `-2` behind it: the second request alone.", examples=["4711"])]
    is_delivered: bool
    is_manual: Annotated[bool, Field(description="Sent by hand.")]
    last_delivery_attempt_date: datetime | None
    last_delivery_attempt_error: str | None
    last_delivery_attempt_status: Annotated[int | None, Field(description="HTTP status; null: no answer.")]
    reason: Annotated[str | None, Field(description="Why it was given up, of a dead one.")]
    state: AttemptState
    type: Annotated[str | None, Field(description="The event's; null once it is past retention.")]
    webhook_id: UUID


class DeliveryAttempts(Shown):
    """A page of delivery attempts."""

    delivery_attempts: list[DeliveryAttempt]
    next_cursor: Annotated[
        str | None,
        Field(
            description=(
                "Reads on; null at the end. A page can be short and have one: what few match is searched bit by bit."
            )
        ),
    ]


class Timings(Shown):
    """How long the phases of a request took, in milliseconds; null where it did not come so far, 0 where there was none."""

    is_reused: Annotated[bool, Field(description="Over a connection that was open already.")]
    lookup: Annotated[float | None, Field(description="Finding the address of the name.")]
    connect: float | None
    tls: float | None
    first_byte: Annotated[
        float | None, Field(description="From the end of the request to the first byte of the answer.")
    ]
    total: int


class Request(Shown):
    """One HTTP request that was made, and what it came to."""

    address: Annotated[str | None, Field(description="The address that was connected to.")]
    error: Annotated[str | None, Field(description="What failed: its class, a colon, and a line for people.")]
    error_class: Annotated[str | None, Field(examples=["timeout"])]
    error_detail: str | None
    id: Annotated[str, Field(examples=["4711-2"])]
    milliseconds: int
    next_attempt_date: datetime | None
    number: Annotated[int, Field(description="From 1.")]
    outcome: Literal["answered", "unreachable", "blocked"]
    request_body: Annotated[
        str | None, Field(description="As it was sent; null once the event is past retention, or if nothing was sent.")
    ]
    request_body_sha256: Annotated[str | None, Field(alias="requestBodySha256")]
    request_body_size: int | None
    request_headers: Annotated[list[list[str]], Field(description="As they were sent; credentials are hidden.")]
    request_line: str | None
    response_body: Annotated[str | None, Field(description="The beginning of the answer, as text.")]
    response_body_cut: Annotated[bool, Field(description="The answer was longer.")]
    response_body_size: Annotated[
        int | None, Field(description="Of the whole answer; null if it was cut and did not say.")
    ]
    response_headers: list[list[str]]
    signed_with: Annotated[list[str], Field(description="Fingerprints of the secrets that signed, the newest first.")]
    started_date: datetime
    status: int | None
    timings: Timings | None
    verdict: Literal["done", "retry", "give_up"]
    worker: Annotated[str | None, Field(description="Host and process id of who sent it.")]


class DeliveryAttemptDetails(DeliveryAttempt):
    """A delivery attempt, whole."""

    attempt: Annotated[Request | None, Field(description="The request that was asked for, else the last one.")]
    attempts: Annotated[list[Request], Field(description="All requests, in order.")]


class ReplayDraft(Given):
    """What finished deliveries to send again."""

    states: Annotated[
        list[Literal["dead", "cancelled", "delivered"]], Field(min_length=1, description="Deliveries in these states.")
    ] = ["dead"]
    since: Annotated[Instant | None, Field(description="Of events that came in at or after this time.")] = None
    until: Annotated[Instant | None, Field(description="Of events that came in before this time.")] = None
    types: Annotated[
        list[str], Field(max_length=1000, description="Of these event types or patterns; none: of all.")
    ] = []
    causes: Annotated[
        list[str],
        Field(
            max_length=100,
            description=(
                "What they ended with: a class of error (`timeout`), a status (`503`, `5xx`) or a reason "
                "(`endpoint_disabled`); none: whatever it was."
            ),
        ),
    ] = []
    rate: Annotated[
        float | None, Field(gt=0, le=10000, description="New deliveries a second; null: as many as the webhook takes.")
    ] = None
    dry_run: Annotated[bool, Field(description="Count, and send nothing.")] = False


class ReplaysQuery(Asked):
    """How many replays to list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class Skipped(Shown):
    """What a replay leaves out, and why."""

    expired: Annotated[int, Field(description="The event has expired.")]
    past_retention: Annotated[int, Field(description="The event is not kept any more.")]
    superseded: Annotated[int, Field(description="There is a later delivery of the event to the webhook.")]


class Fates(Shown):
    """What becomes of what a replay finds."""

    replayed: int
    skipped: Skipped


class ReplayCount(Fates):
    """What a replay would come to."""

    is_exact: Annotated[
        bool, Field(description="False: counting stopped after 20,000 finished deliveries, and there are more.")
    ]


class Replay(Fates):
    """A replay with how far it has come."""

    causes: list[str]
    created_date: datetime
    expected: Annotated[int, Field(description="How many there were to be replayed when it was created.")]
    is_expected_exact: Annotated[bool, Field(description="False: it was too long to count, and is at least that.")]
    finished_date: Annotated[datetime | None, Field(description="Null: it runs.")]
    id: UUID
    rate: float | None
    reason: Annotated[str | None, Field(description="Why it was cancelled.")]
    since: datetime | None
    state: Literal["running", "done", "cancelled"]
    states: list[Literal["dead", "cancelled", "delivered"]]
    tenant: str
    types: list[str]
    until: datetime | None
    webhook_id: UUID
