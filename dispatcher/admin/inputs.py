"""What people hand in: drafts and changes, not yet checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from dispatcher.model import EventId


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
    payload_format: str = "standard"
    signing_profiles: Sequence[str] = ("standard",)
    filter: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_schedule: str | Sequence[str | float] | None = None
    timeout: str | float | None = None
    rate_limit: float | None = None
    """Requests per second."""
    warn_after: str | float | None = None
    disable_after: str | float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = None
    """Own secret, `whsec_…`, for migration; null: a new one is made."""


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """Fields of a webhook to be changed; `UNSET` ones stay, null clears."""

    url: str | Unset = UNSET
    subscriptions: Sequence[str] | Unset = UNSET
    notification_email: str | Unset | None = UNSET
    additional_notification_emails: Sequence[str] | Unset = UNSET
    description: str | Unset | None = UNSET
    payload_format: str | Unset = UNSET
    signing_profiles: Sequence[str] | Unset = UNSET
    filter: str | Unset | None = UNSET
    headers: Mapping[str, str] | Unset = UNSET
    retry_schedule: str | Sequence[str | float] | Unset | None = UNSET
    timeout: str | float | Unset | None = UNSET
    rate_limit: float | Unset | None = UNSET
    warn_after: str | float | Unset | None = UNSET
    disable_after: str | float | Unset | None = UNSET
    metadata: Mapping[str, Any] | Unset = UNSET


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
