"""What people hand in: drafts and changes, not yet checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from dispatcher.model import EventId

DELIVERING: Final = range(200, 300)
"""Statuses that end a delivery well."""


class Unset(Enum):
    """The value of a field that is not to be changed, apart from null, which clears it."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class WebhookDraft:
    """A webhook to be created. Durations are seconds or `"5s"`; a schedule is a preset's name, `"1s,2s"` or a list."""

    url: str
    subscriptions: Sequence[str]
    notification_email: str | None = None
    additional_notification_emails: Sequence[str] = ()
    description: str | None = None
    payload_format: str | None = None
    """A built-in one, or name/version of another; null: the tenant's default."""
    signing_profiles: Sequence[str] = ("standard",)
    """Added to the Standard Webhooks headers, unless `without-standard` is among them."""
    filter: str | None = None
    """A condition in CEL; null: none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_schedule: str | Sequence[str | float] | None = None
    timeout: str | float | None = None
    rate_limit: float | None = None
    """Requests per second."""
    warn_after: str | float | None = None
    disable_after: str | float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = None
    """Own secret for migration: `whsec_…`, or with a signing profile any text; null: a new one is made."""
    include_descendants: bool = False
    """Get the events of the tenants below, too."""
    preset: str | None = None
    """Fills in what is not given; see `dispatcher.presets`."""
    verification: str | None = None
    """How the subscriber is asked first: `none`, `challenge`, `cloudevents`."""
    refuses_wrong_signatures: bool = False
    """Ask it, too, whether it refuses a request with a wrong signature."""


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """Fields of a webhook to be changed; `UNSET` ones stay, null clears."""

    url: str | Unset = UNSET
    subscriptions: Sequence[str] | Unset = UNSET
    notification_email: str | Unset | None = UNSET
    additional_notification_emails: Sequence[str] | Unset = UNSET
    description: str | Unset | None = UNSET
    payload_format: str | Unset | None = UNSET
    signing_profiles: Sequence[str] | Unset = UNSET
    filter: str | Unset | None = UNSET
    headers: Mapping[str, str] | Unset = UNSET
    retry_schedule: str | Sequence[str | float] | Unset | None = UNSET
    timeout: str | float | Unset | None = UNSET
    rate_limit: float | Unset | None = UNSET
    warn_after: str | float | Unset | None = UNSET
    disable_after: str | float | Unset | None = UNSET
    metadata: Mapping[str, Any] | Unset = UNSET
    include_descendants: bool | Unset = UNSET
    verification: str | None = None
    """How the subscriber is asked first, as it would be after the change: `none`, `challenge`, `cloudevents`."""
    refuses_wrong_signatures: bool = False
    """Ask it, too, whether it refuses a request with a wrong signature."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be inserted into the outbox; see DESIGN: the contract with internal systems."""

    tenant: str
    event_type: str
    payload: str
    """JSON text, sent as it is written."""
    id: EventId | None = None
    occurred_at: datetime | None = None
    deliver_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str | None = None
    ordering_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which deliveries of a webhook's log are asked for, and in which order; null: no matter."""

    event_type: str | None = None
    is_delivered: bool | None = None
    created_after: datetime | None = None
    """At or after it; so for `delivered_after`. What is `…_before` is so strictly."""
    created_before: datetime | None = None
    delivered_after: datetime | None = None
    delivered_before: datetime | None = None
    last_status: int | None = None
    """HTTP status of the last attempt."""
    last_error: str | None = None
    """A part of what the last attempt failed with, in upper or lower case."""
    by_delivery: bool = False
    """In the order of delivery, which leaves out what was not delivered; else of creation."""
    ascending: bool = False

    @property
    def asks_for_attempt(self) -> bool:
        """Whether the last attempt decides."""
        return self.last_status is not None or self.last_error is not None

    @property
    def asks_for_failure(self) -> bool:
        """Whether only what was not delivered can be meant: a delivery is delivered by a 2xx, and without an error."""
        status = self.last_status
        return self.last_error is not None or (status is not None and status not in DELIVERING)

    @property
    def is_walk_only(self) -> bool:
        """Whether an index answers all of it."""
        return self.event_type is None and not self.asks_for_attempt
