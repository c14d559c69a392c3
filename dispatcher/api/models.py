"""The shapes of requests and answers: what is read is checked by them, and the OpenAPI document is made from them.

Rules that need more than one look at a value are `admin`'s. What answers look like is decided in `admin.views`; the models
of answers describe it, and a test holds both together.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _utc(instant: datetime) -> datetime:
    """Take an instant without an offset for UTC."""
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("The time is beyond the years 1 to 9999 in UTC.") from None


def _plus(value: object) -> object:
    """Mend what most programs get wrong: an unescaped `+` in a query is a blank when it arrives."""
    return value.replace(" ", "+") if isinstance(value, str) and value[10:11] == "T" else value


Instant = Annotated[datetime, AfterValidator(_utc)]
QueryInstant = Annotated[datetime, BeforeValidator(_plus), AfterValidator(_utc)]


class Given(BaseModel):
    """What is read: types are not guessed at, and unknown names are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class Asked(BaseModel):
    """A query: texts are read as what they are meant to be; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Shown(BaseModel):
    """What is answered."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


# webhooks

Schedule = Annotated[
    str | list[float | str],
    Field(
        description=(
            "Delays between attempts, seconds or like `5m`; or a preset: standard, none, decoda, healthengine, healthie, "
            "nexhealth, shopify, slack, stripe, svix."
        )
    ),
]
Subscriptions = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=1000,
        description="Event types; `appointment.*` stands for all that begin so, `*` for all.",
        examples=[["PATIENT_CREATED", "appointment.*"]],
    ),
]
Url = Annotated[str, Field(description="Where events are sent.", examples=["https://example.com/webhooks"])]
Email = Annotated[
    str | None,
    Field(description="Who is told when delivery fails for good; null: nobody.", examples=["it@example.com"]),
]


class WebhookOptions(Given):
    """What can be set of a webhook beside what it needs."""

    notification_email: Email = None
    additional_notification_emails: Annotated[list[str], Field(max_length=10)] = []
    description: Annotated[str | None, Field(max_length=1000)] = None
    payload_format: Annotated[
        str | None,
        Field(
            description=(
                "How an event becomes a body: `standard`, `raw`, `cloudevents`, or name and version of another, like "
                "`vsee/2.0`; null: the tenant's default."
            ),
        ),
    ] = None
    signing_profiles: Annotated[
        list[str],
        Field(
            description=(
                "Whose headers prove the request, beside Standard Webhooks': `decoda`, `healthie`, `hero`, `rfc9421`, …; "
                "`without-standard` leaves those out."
            ),
        ),
    ] = ["standard"]
    filter: Annotated[
        str | None,
        Field(
            description="An expression (CEL) that an event must meet, over `payload` and `event`; null: none.",
            examples=["payload.amount > 1000"],
        ),
    ] = None
    include_descendants: Annotated[bool, Field(description="Get the events of the tenants below, too.")] = False
    headers: Annotated[dict[str, str], Field(description="Further headers of each request.")] = {}
    retry_schedule: Schedule | None = None
    timeout: Annotated[
        float | None,
        Field(alias="timeoutSeconds", description="Total deadline of an attempt, seconds, at most 120."),
    ] = None
    rate_limit: Annotated[float | None, Field(description="Requests a second, at most.")] = None
    warn_after: Annotated[
        float | None, Field(alias="warnAfterSeconds", description="Warn after so many seconds of nothing but failures.")
    ] = None
    disable_after: Annotated[
        float | None,
        Field(alias="disableAfterSeconds", description="Disable after so many seconds of nothing but failures."),
    ] = None
    metadata: Annotated[dict[str, Any], Field(description="Anything of yours, kept as it is; 16 KiB.")] = {}


class WebhookDraft(WebhookOptions):
    """A webhook to be created."""

    url: Url
    subscriptions: Subscriptions
    secret: Annotated[
        str | None,
        Field(
            description=(
                "A signing secret of yours, `whsec_` and base64 of 24 to 64 bytes, or with a signing profile any text; else "
                "one is made."
            )
        ),
    ] = None
    preset: Annotated[
        str | None,
        Field(description="Fills in what is not given, as a system did that you come from: `healthie`, `decoda`, …"),
    ] = None
    verification: Annotated[
        Literal["none", "challenge", "cloudevents"] | None,
        Field(
            description=(
                "Ask the URL first: `challenge` posts a text that it must send back, `cloudevents` sends OPTIONS and wants "
                "`WebHook-Allowed-Origin`."
            )
        ),
    ] = None
    refuses_wrong_signatures: Annotated[
        bool, Field(description="See first that the URL refuses a request with a wrong signature.")
    ] = False


class WebhookChanges(WebhookOptions):
    """Fields of a webhook to be changed. What is left out stays as it is; null clears."""

    # what is not given is known from `model_fields_set`; a factory keeps these out of the schema, where they mean nothing
    url: Url = Field(default_factory=str)
    subscriptions: Subscriptions = Field(default_factory=list)


class Rotation(Given):
    """How to rotate a secret."""

    secret: Annotated[str | None, Field(description="A new secret of yours; else one is made.")] = None
    overlap: Annotated[
        float,
        Field(
            alias="overlapSeconds",
            ge=0,
            le=604800,
            description="For how many seconds the old one signs beside the new one, at most 7 days.",
        ),
    ] = 86400.0


class Listing(Asked):
    """Which webhooks to list."""

    include_archived: Annotated[bool, Field(description="Archived ones, too.")] = False


class WebhookOptionsShown(Shown):
    """Optional fields: there if they were given."""

    additional_notification_emails: list[str] = []
    description: str = ""
    disable_after_seconds: float = 0
    filter: str = ""
    headers: dict[str, str] = {}
    include_descendants: bool = False
    metadata: dict[str, Any] = {}
    payload_format: str = ""
    rate_limit: float = 0
    retry_schedule: list[float] = []
    signing_profiles: list[str] = []
    timeout_seconds: float = 0
    warn_after_seconds: float = 0


class CreatedWebhook(WebhookOptionsShown):
    """A webhook that was just created, with its secret."""

    created_date: datetime
    id: UUID
    notification_email: str | None
    public_key: Annotated[str, Field(description="Of ed25519 signatures, with the signing profile `v1a`.")] = ""
    secret: Annotated[str, Field(description="Proves requests to you. Keep it; it can be shown again by its own call.")]
    subscriptions: list[str]
    updated_date: Annotated[datetime | None, Field(description="When it was last changed; null: never.")]
    url: str


class Health(Shown):
    """How a webhook is doing."""

    cool_until: Annotated[datetime | None, Field(description="Nothing is sent before, as the subscriber asked.")]
    failing_since: Annotated[datetime | None, Field(description="Since the first failure after a success.")]
    hung: Annotated[bool, Field(description="It was seen hanging or refusing; one request at a time goes out.")]
    last_error: str | None
    last_failure_date: datetime | None
    last_success_date: datetime | None
    warned_date: datetime | None


class Webhook(WebhookOptionsShown):
    """A webhook."""

    created_date: datetime
    disabled_date: datetime | None = None
    disabled_reason: str | None = None
    health: Health
    id: UUID
    is_archived: bool
    notification_email: str | None
    state: Literal["active", "paused", "disabled"]
    subscriptions: list[str]
    tenant: str
    updated_date: datetime | None
    url: str


class Secret(Shown):
    """A signing secret that is in use."""

    created_date: datetime
    expires_date: Annotated[datetime | None, Field(description="When it stops signing; null: the current one.")]
    fingerprint: Annotated[str, Field(description="What `signedWith` of a request calls it.")]
    secret: str


class PublicKey(Shown):
    """The public half of an ed25519 key that is in use."""

    created_date: datetime
    expires_date: Annotated[datetime | None, Field(description="When it stops signing; null: the current one.")]
    public_key: Annotated[str, Field(description="`whpk_` and base64.")]


class Secrets(Shown):
    """The signing secrets of a webhook."""

    id: UUID
    secret: Annotated[str, Field(description="The current one.")]
    public_keys: Annotated[list[PublicKey], Field(description="With the signing profile `v1a`; else left out.")] = []
    secrets: Annotated[list[Secret], Field(description="All in use, the current one first.")]


# delivery attempts


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


AttemptState = Literal["pending", "delivered", "dead", "cancelled"]


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


# replays


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


class ReplayCount(Shown):
    """What a replay comes to."""

    replayed: int
    skipped: Skipped


class Replay(ReplayCount):
    """A replay with how far it has come."""

    causes: list[str]
    created_date: datetime
    expected: Annotated[int, Field(description="How many there were to be replayed when it was created.")]
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


# events


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

    deliveries: Annotated[list[EventDelivery], Field(description="The newest first.")]
    finding: Annotated[str, Field(examples=["delivered", "waiting", "dead", "not_subscribed", "disabled"])]
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


# problems


class WrongShown(BaseModel):
    """One thing that is wrong, and where it is."""

    model_config = ConfigDict(title="Wrong", extra="forbid")

    detail: str
    pointer: Annotated[str, Field(description="JSON pointer into the body.", examples=["/url"])] = ""
    parameter: Annotated[str, Field(description="Name of a query parameter.")] = ""
    header: Annotated[str, Field(description="Name of a header.")] = ""


class ProblemShown(BaseModel):
    """A problem (RFC 9457)."""

    model_config = ConfigDict(title="Problem", extra="forbid")

    type: Annotated[str, Field(description="Leads to its explanation.")]
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong and how to mend it, for people.")]
    instance: Annotated[str, Field(description="The path that was called.")]
    errors: list[WrongShown] = []
