"""The nouns that every part shares: ids, events, endpoints, deliveries, outcomes and verdicts, as frozen data.

Holds no behaviour beyond what reads a value off itself. Instants are unix seconds by the database's clock (`float`),
durations are seconds (`float`); both are named for what they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import NewType
from uuid import UUID

from dispatcher.swift import swift

EventId = NewType("EventId", UUID)
EndpointId = NewType("EndpointId", UUID)
DeliveryId = NewType("DeliveryId", int)
ReplayId = NewType("ReplayId", UUID)
Shard = NewType("Shard", int)

SHARD_COUNT = 256
"""Groups of tenants. Fixed for ever: the number is stamped on rows. Small enough to renew all leases in 1 ms, large
enough to share out evenly among some tens of workers."""


class DeliveryState(StrEnum):
    """Where a delivery stands; all but `PENDING` are final (a replay makes a new delivery)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class EndpointState(StrEnum):
    """What an endpoint is set to. Being *failing* is no state but health: see `Health`."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeathReason(StrEnum):
    """Why a delivery was given up."""

    EXHAUSTED = "exhausted"
    """Every attempt of the schedule was made."""
    EXPIRED = "expired"
    """The event's `expires_at` passed."""
    UNAVAILABLE = "unavailable"
    """The schedule's whole span passed while the endpoint could not be tried."""
    GONE = "gone"
    """The subscriber answered 410, or `webhook-delivery: disable`."""
    ABORTED = "aborted"
    """The subscriber answered `webhook-delivery: abort-message`."""
    ENDPOINT_DISABLED = "endpoint_disabled"
    """The endpoint was disabled while the delivery was pending."""


class NoticeKind(StrEnum):
    """What a notice tells the person at `notificationEmail`."""

    DELIVERIES_DEAD = "deliveries_dead"
    ENDPOINT_FAILING = "endpoint_failing"
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_RECOVERED = "endpoint_recovered"


class UnreachableReason(StrEnum):
    """Why no answer came."""

    DNS = "dns"
    REFUSED = "refused"
    CONNECT = "connect"
    """No route, network down, or any other failure to connect that is neither refusal nor time-out."""
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    RESET = "reset"
    """The connection was lost before the whole answer had come."""
    TIMEOUT = "timeout"
    """The total deadline passed."""
    PROTOCOL = "protocol"
    """What came is not HTTP."""


@swift
class Sent:
    """What was written to the subscriber in one attempt."""

    head: str
    """The request's first line, its query cut, and its headers, CRLF between; values of credentials are hidden."""
    body_size: int
    body_sha256: bytes


@swift
class Timings:
    """How long the phases of an attempt took, in seconds; null where it did not come so far, 0 where there was none."""

    reused: bool
    """Over a connection that was open: no look-up, no connecting, no TLS."""
    lookup: float | None
    connect: float | None
    tls: float | None
    first_byte: float | None
    """From when the request was written to the first byte of the answer."""


@swift
class Answered:
    """The subscriber answered with a complete HTTP head, and its body ended or was cut at the limit."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """As received, in order, decoded as latin-1; names keep their case."""
    body: bytes
    """At most `egress` `answer_limit` bytes, as they came (never decompressed)."""
    body_cut: bool
    """True if the answer was longer than what was read."""
    seconds: float
    """From the start of the attempt (before DNS) to the end of what was read."""
    address: str | None
    """The address that was connected to, `192.0.2.1:443` or `[2001:db8::1]:443`."""
    sent: Sent | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer: name resolution, connection, TLS, time or protocol failed."""

    reason: UnreachableReason
    detail: str
    """One line for people, without secrets, query strings or userinfo."""
    seconds: float
    address: str | None
    sent: Sent | None = None
    """Null: it did not come so far."""
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """The address policy, or another rule about where requests may go, forbade the attempt; nothing was sent."""

    detail: str
    """One line for people; names the address and the setting that would allow it."""
    seconds: float
    address: str | None


Outcome = Answered | Unreachable | Blocked


@dataclass(frozen=True, slots=True)
class Done:
    """The subscriber has it."""


@swift
class Retry:
    """Try again `delay` seconds from now."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The delivery dies."""

    reason: DeathReason


Verdict = Done | Retry | GiveUp


class Pressure(StrEnum):
    """What an outcome says about how much the endpoint can take."""

    OK = "ok"
    """2xx: it may get more at once."""
    NEUTRAL = "neutral"
    """It answered, but the answer says nothing about load (3xx, most 4xx), or nothing was sent (blocked)."""
    STRAINED = "strained"
    """5xx: it gets half as many at once."""
    THROTTLED = "throttled"
    """429, 502, 503, 504: half as many, and the whole endpoint waits."""
    HUNG = "hung"
    """No answer: a single probe at a time until one is answered."""


@swift
class Judgement:
    """All that follows from one attempt."""

    verdict: Verdict
    pressure: Pressure
    pause: float | None = None
    """Seconds for which the subscriber asked the whole endpoint to wait (`Retry-After`)."""
    disable: bool = False
    """The subscriber asked never to be called again."""


@swift
class Event:
    """A row of the outbox, as far as sending needs it."""

    id: EventId
    tenant: str
    event_type: str
    payload: str
    """The JSON text exactly as inserted."""
    occurred_at: float
    inserted_at: float


@swift
class Delivery:
    """A pending delivery as the worker that owns it holds it in memory."""

    id: DeliveryId
    shard: Shard
    endpoint_id: EndpointId
    event: Event
    due_at: float
    created_at: float
    attempts: int
    """How many attempts were recorded so far."""
    expires_at: float | None = None
    ordered: bool = False
    manual: bool = False
    """Made by a person's retry or a test, so that no notice follows from it unless asked for."""
    notify: bool = False
    """Of a manual one: it was asked for."""

    @property
    def is_silent(self) -> bool:
        """Whether its death is told to nobody."""
        return self.manual and not self.notify


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing key of an endpoint."""

    value: str
    """As shown to the subscriber: `whsec_` + base64."""
    expires_at: float | None
    """When it stops being used: set for the old key during a rotation, null for the current one."""

    @property
    def fingerprint(self) -> str:
        """Tell it from others without telling it."""
        return fingerprint(self.value)


@lru_cache(maxsize=4096)  # the same few, at every attempt
def fingerprint(secret: str) -> str:
    """Return what a signing key is called in the log of attempts: the first 12 hexadecimal digits of its SHA-256.

    A key is random, and long enough that its hash tells nobody what it is.
    """
    return sha256(secret.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Health:
    """What is written down of how an endpoint is doing."""

    failing_since: float | None = None
    """Instant of the first failure after a success; null while all is well."""
    warned_at: float | None = None
    cool_until: float | None = None
    """No attempt before this instant (`Retry-After`, or a growing pause)."""
    hung: bool = False
    """It was last seen hanging or refusing: only a single probe may be in flight."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A subscriber's URL with all that sending to it needs."""

    id: EndpointId
    shard: Shard
    tenant: str
    url: str
    state: EndpointState
    secrets: tuple[Secret, ...]
    """The newest first; none if one cannot be opened: see `sealed`."""
    notification_email: str | None = None
    additional_notification_emails: tuple[str, ...] = ()
    payload_format: str = "standard"
    format_definition: str | None = None
    """The stored definition of its payload format, JSON; null where there is none: it comes with the service."""
    signing_profiles: tuple[str, ...] = ("standard",)
    profile_definitions: Mapping[str, str] = field(default_factory=dict)
    """The stored definitions of its signing profiles, JSON by name; those that come with the service need none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_schedule: tuple[float, ...] | None = None
    """Delays between attempts, seconds; null: the configured default."""
    timeout: float | None = None
    """Total deadline, seconds; null: the configured default."""
    rate_limit: float | None = None
    """Requests per second; null: none."""
    warn_after: float | None = None
    disable_after: float | None = None
    description: str | None = None
    archived: bool = False
    sealed: str | None = None
    """Why its secrets cannot be opened, for people; null: they are. Until then its deliveries wait."""
    health: Health = Health()
