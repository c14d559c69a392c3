"""The shapes of webhooks and their secrets."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from dispatcher.api.models.base import Asked, Given, Shown

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


Verification = Annotated[
    Literal["none", "challenge", "cloudevents"] | None,
    Field(
        description=(
            "Ask the URL first: `challenge` posts a text that it must send back, `cloudevents` sends OPTIONS and wants "
            "`WebHook-Allowed-Origin`."
        )
    ),
]
RefusesWrongSignatures = Annotated[
    bool, Field(description="See first that the URL refuses a request with a wrong signature.")
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
    verification: Verification = None
    refuses_wrong_signatures: RefusesWrongSignatures = False


class WebhookChanges(WebhookOptions):
    """Fields of a webhook to be changed. What is left out stays as it is; null clears."""

    # what is not given is known from `model_fields_set`; a factory keeps these out of the schema, where they mean nothing
    url: Url = Field(default_factory=str)
    subscriptions: Subscriptions = Field(default_factory=list)
    verification: Verification = None
    refuses_wrong_signatures: RefusesWrongSignatures = False


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
    payload_format_deprecated_date: Annotated[
        date | None, Field(description="From this day on its payload format should not be used; it goes on working.")
    ] = None
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
