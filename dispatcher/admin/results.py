"""What people get back, where it is more than a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dispatcher.model import EndpointId
from dispatcher.store.history import AttemptRow, DeliveryRow, EventRow
from dispatcher.store.keys import Key
from dispatcher.store.log import Entry
from dispatcher.store.replays import Fate


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key that was just created."""

    key: str = field(repr=False)
    """Shown this once."""
    details: Key


@dataclass(frozen=True, slots=True)
class Resealed:
    """What sealing anew has come to."""

    key: str
    """Id of the main key that everything is sealed with now."""
    count: int
    """How much was not."""


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries: pending ones first, the soonest due first; then finished ones, the latest first."""

    deliveries: tuple[DeliveryRow, ...]
    next_cursor: str | None
    """Hand it in to read on; null at the end."""


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """A delivery with all its attempts."""

    delivery: DeliveryRow
    attempts: tuple[AttemptRow, ...]
    event: EventRow | None
    """Null when it is past retention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDelivery:
    """A delivery as a webhook's log shows it."""

    entry: Entry
    payload: str | None
    """The event's, as inserted; null when it is past retention."""
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    attempts: tuple[AttemptRow, ...] = ()
    """In order; only where one delivery alone was asked for."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of a webhook's log."""

    deliveries: tuple[LoggedDelivery, ...]
    next_cursor: str | None
    """Hand it in to read on; null at the end. A page can be short and have one: a rare find is searched bit by bit."""


class Cause(StrEnum):
    """What holds a delivery that waits, or has ended it: for programs what `why` is for people."""

    PAUSED = "paused"
    DISABLED = "disabled"
    ARCHIVED = "archived"
    ORDERING = "ordering"
    """An earlier delivery with the same ordering key comes first."""
    SCHEDULED = "scheduled"
    """It is not to be delivered yet."""
    RETRY = "retry"
    """An attempt failed; the next one comes."""
    BLOCKED = "blocked"
    """The last attempt failed because the address policy forbids the URL's address."""
    NO_WORKER = "no_worker"
    SEALED = "sealed"
    """No main key that is configured opens the webhook's secrets."""
    COOLING_DOWN = "cooling_down"
    HUNG = "hung"
    RATE_LIMIT = "rate_limit"
    DUE = "due"
    """It waits for its turn, or is being sent."""
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    ABORTED = "aborted"
    ENDPOINT_DISABLED = "endpoint_disabled"
    GIVEN_UP = "given_up"
    """For a reason that is not known here."""
    BY_PERSON = "by_person"


class Finding(StrEnum):
    """What became of an event at one endpoint."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    DEAD = "dead"
    CANCELLED = "cancelled"
    NOT_READ_YET = "not_read_yet"
    """It will match once a worker has read the event."""
    NOT_SUBSCRIBED = "not_subscribed"
    FILTERED = "filtered"
    """Its filter said no."""
    REFUSED = "refused"
    """It would have matched, had the catalogue not spoken against the event."""
    DISABLED = "disabled"
    """Disabled when the event was read, whatever it is now."""
    ARCHIVED = "archived"
    REGISTERED_LATER = "registered_later"
    UNKNOWN = "unknown"
    """It matches now, but nothing tells why it did not then: changed since, or past retention."""


@dataclass(frozen=True, slots=True)
class EndpointFinding:
    """What became of an event at one endpoint, and why."""

    endpoint_id: EndpointId
    url: str
    finding: Finding
    cause: Cause | None
    """Of a delivery that waits, died or was cancelled; null: the finding says all."""
    why: str
    """One or two sentences for people."""
    next_attempt_at: datetime | None
    deliveries: tuple[DeliveryRow, ...]
    """The newest first; more than one after a manual retry."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of an event, endpoint by endpoint."""

    event: EventRow
    summary: str
    """One or two sentences for people."""
    endpoints: tuple[EndpointFinding, ...]


@dataclass(frozen=True, slots=True)
class ReplayCount:
    """What a replay would come to."""

    fates: Mapping[Fate, int]
    exact: bool
    """False: counting stopped; these are the fates of the first, and there are more."""
