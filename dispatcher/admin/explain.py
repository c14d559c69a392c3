"""Says what became of an event, endpoint by endpoint, and why.

`ExplainAdmin` gathers the facts; everything else here is pure and only puts them into words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from dispatcher.admin.base import Base
from dispatcher.admin.events import TEST_EVENT, find_event
from dispatcher.admin.replays import BLOCKED
from dispatcher.admin.results import Cause, EndpointFinding, Explanation, Finding
from dispatcher.errors import NotFound
from dispatcher.model import DeathReason, DeliveryId, DeliveryState, EndpointId, EndpointState, EventId
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import history
from dispatcher.store.endpoints import DisabledSpan, EndpointRow
from dispatcher.store.history import AttemptRow, DeliveryRow, EventRow, Ownership

ARCHIVED = "endpoint_archived"
"""The reason of deliveries that were cancelled with their webhook."""

_DEATHS: Mapping[str, str] = MappingProxyType(
    {
        DeathReason.EXHAUSTED: "every attempt of its schedule failed",
        DeathReason.EXPIRED: "the event expired",
        DeathReason.UNAVAILABLE: "its schedule's whole time passed while the endpoint could not be tried",
        DeathReason.GONE: "the subscriber answered that it wants nothing any more (410, or `webhook-delivery: disable`)",
        DeathReason.ABORTED: "the subscriber answered `webhook-delivery: abort-message`",
        DeathReason.ENDPOINT_DISABLED: "the webhook was disabled while it was pending",
    }
)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of an event's way."""

    event: EventRow
    unread: bool
    unmatched: bool
    stranger: str | None
    """What to say if the tenant is not registered."""
    ownership: Ownership
    endpoints: Sequence[EndpointRow]
    subscribed: Mapping[EndpointId, bool]
    deliveries: Mapping[EndpointId, tuple[DeliveryRow, ...]]
    """The newest first."""
    disabled: Mapping[EndpointId, DisabledSpan]
    """Endpoints that were disabled when the event came in, or right after."""
    sealed: AbstractSet[EndpointId]
    """Endpoints whose secrets cannot be opened."""
    filtered: Mapping[EndpointId, str | None]
    """Whose filter did not say yes, and why it failed; null: it said no."""
    last_attempts: Mapping[DeliveryId, AttemptRow]
    default_schedule: tuple[float, ...]


class ExplainAdmin(Base):
    """Answer every "why"."""

    async def explain(self, event_id: EventId, *, tenant: str | None = None) -> Explanation:
        """Explain what became of an event."""
        async with self._reading() as connection:
            event = await find_event(connection, event_id, None)
            endpoints = [
                endpoint
                for endpoint in await endpoint_store.concerned(connection, event.tenant)
                if tenant in (None, endpoint.tenant)
            ]
            if tenant != event.tenant and not endpoints:  # it concerns nothing of that tenant's
                await find_event(connection, event_id, tenant)
            rows = await history.deliveries_of_event(connection, event_id)
            pending = [row.id for row in rows if row.state is DeliveryState.PENDING]
            stranger = None
            try:
                await self._tenant(connection, event.tenant)
            except NotFound as error:
                stranger = str(error)
            facts = Facts(
                event=event,
                unread=await history.is_unread(connection, event),
                unmatched=await history.is_unmatched(connection, event),
                stranger=stranger,
                ownership=await history.ownership(connection, event.shard, now=self._now()),
                endpoints=endpoints,
                subscribed=await history.subscribers(connection, [one.id for one in endpoints], event.event_type),
                disabled=await endpoint_store.disabled_at(connection, [one.id for one in endpoints], event.inserted_at),
                sealed=await self._sealed(connection, rows),
                filtered=await history.filtered(connection, event),
                deliveries=_by_endpoint(rows),
                # they come in order, so that the last one stays
                last_attempts={one.delivery_id: one for one in await history.attempts(connection, pending)},
                default_schedule=self._default_schedule,
            )
        return explained(facts)

    async def _sealed(self, connection: Any, rows: Sequence[DeliveryRow]) -> set[EndpointId]:
        """Return the endpoints that have pending deliveries, and secrets that cannot be opened."""
        waiting = {row.endpoint_id for row in rows if row.state is DeliveryState.PENDING}
        found = await endpoint_store.load(connection, list(waiting), self._sealer, now=self._now())
        return {endpoint.id for endpoint in found if endpoint.sealed is not None}


def _by_endpoint(rows: Sequence[DeliveryRow]) -> dict[EndpointId, tuple[DeliveryRow, ...]]:
    found: dict[EndpointId, tuple[DeliveryRow, ...]] = {}
    for row in rows:
        found[row.endpoint_id] = (*found.get(row.endpoint_id, ()), row)
    return found


def explained(facts: Facts) -> Explanation:
    """Put the facts into words."""
    findings = [_finding(facts, endpoint) for endpoint in facts.endpoints if _concerns(facts, endpoint)]
    return Explanation(facts.event, _summary(facts, findings), tuple(findings))


def _concerns(facts: Facts, endpoint: EndpointRow) -> bool:
    """Leave out webhooks that were archived before, and for a test all but the one it went to."""
    if endpoint.id in facts.deliveries:
        return True
    archived = endpoint.archived_at is not None and endpoint.archived_at <= facts.event.inserted_at
    return not archived and not _is_test(facts)


def _is_test(facts: Facts) -> bool:
    rows = [row for rows in facts.deliveries.values() for row in rows]
    return facts.event.event_type == TEST_EVENT and bool(rows) and all(row.manual for row in rows)


def _summary(facts: Facts, findings: Sequence[EndpointFinding]) -> str:
    if facts.unread:
        return f"No worker has read it from the outbox yet. {_who_works(facts.ownership)}"
    if facts.event.refused_at is not None:
        return (
            f"It was refused when it was read, at {_at(facts.event.refused_at)}, and is kept: {facts.event.refused_because} "
            f"Mend the producer, or the catalogue and then `dispatcher event readmit {facts.event.id}`."
        )
    if facts.unmatched or not findings:
        nobody = "It was read, and no webhook wanted it."
        if any(finding.finding is Finding.FILTERED for finding in findings):
            return f"{nobody[:-1]}: their filters said no."
        return f"{nobody} {facts.stranger}" if facts.stranger else nobody
    counts = Counter(finding.finding for finding in findings)
    told = {
        Finding.DELIVERED: "delivered",
        Finding.WAITING: "waiting",
        Finding.DEAD: "dead",
        Finding.CANCELLED: "cancelled",
    }
    parts = [f"{counts[finding]} {word}" for finding, word in told.items() if counts[finding]]
    others = sum(count for finding, count in counts.items() if finding not in told)
    if others:
        parts.append(f"{others} got none")
    idle = f" {_who_works(facts.ownership)}" if counts[Finding.WAITING] and not facts.ownership.owned else ""
    of = "A test of one webhook" if _is_test(facts) else f"Of {_count(len(findings), 'webhook')} of the tenant"
    return f"{of}: {', '.join(parts)}.{idle}"


def _who_works(ownership: Ownership) -> str:
    if ownership.owned:
        return "A worker is there for it, and does so next."
    if ownership.any_worker:
        return "Its part of the work has no worker at this moment; one takes it over within seconds."
    return "No worker is running: start `dispatcher serve`."


def _finding(facts: Facts, endpoint: EndpointRow) -> EndpointFinding:
    rows = facts.deliveries.get(endpoint.id, ())
    next_attempt_at = None
    cause = None
    if rows:
        finding, cause, why = _of_delivery(facts, endpoint, rows[0])
        if (fault := facts.filtered.get(endpoint.id)) is not None:
            why = f"{why} Its filter came to nothing, so that it gets the event all the same: {fault}"
        if rows[0].state is DeliveryState.PENDING and endpoint.state is EndpointState.ACTIVE:
            next_attempt_at = _latest(rows[0].due_at, endpoint.health.cool_until)
    else:
        finding, why = _of_none(facts, endpoint)
    return EndpointFinding(endpoint.id, endpoint.url, finding, cause, why, next_attempt_at, rows)


def _latest(due_at: datetime | None, cool_until: datetime | None) -> datetime | None:
    return due_at if due_at is None or cool_until is None else max(due_at, cool_until)


def _of_delivery(facts: Facts, endpoint: EndpointRow, row: DeliveryRow) -> tuple[Finding, Cause | None, str]:
    match row.state:
        case DeliveryState.DELIVERED:
            return (
                Finding.DELIVERED,
                None,
                f"Delivered at {_at(row.finished_at)}, by attempt {row.attempts}{_answer(row)}.",
            )
        case DeliveryState.DEAD:
            died = _DEATHS.get(row.reason or "", "it was given up")
            return (
                Finding.DEAD,
                _cause_of_death(row),
                (
                    f"Given up at {_at(row.finished_at)} after {_count(row.attempts, 'attempt')}: {died}{_answer(row)}. "
                    f"`dispatcher delivery retry {row.id}` sends it again."
                ),
            )
        case DeliveryState.CANCELLED:
            archived = row.reason == ARCHIVED
            cause = Cause.ARCHIVED if archived else Cause.BY_PERSON
            by = "when the webhook was archived" if archived else "by a person"
            return Finding.CANCELLED, cause, f"Cancelled at {_at(row.finished_at)} {by}."
        case DeliveryState.PENDING:
            return Finding.WAITING, *_waiting(facts, endpoint, row)


def _cause_of_death(row: DeliveryRow) -> Cause:
    if row.reason in {DeathReason.EXHAUSTED, DeathReason.UNAVAILABLE} and _is_blocked(row.error):
        return Cause.BLOCKED
    return Cause(row.reason) if row.reason is not None and row.reason in _DEATHS else Cause.GIVEN_UP


def _is_blocked(error: str | None) -> bool:
    return error is not None and error.startswith(f"{BLOCKED}:")


def _waiting(facts: Facts, endpoint: EndpointRow, row: DeliveryRow) -> tuple[Cause, str]:
    """Say what a pending delivery waits for; what holds it longest comes first."""
    now = facts.ownership.now
    if endpoint.archived_at is not None:
        return Cause.ARCHIVED, "The webhook was archived; the delivery is about to be cancelled."
    if endpoint.state is EndpointState.DISABLED:
        return Cause.DISABLED, "The webhook is disabled; the delivery is about to be given up."
    if endpoint.state is EndpointState.PAUSED:
        return Cause.PAUSED, f"The webhook is paused; it is sent after `dispatcher webhook resume {endpoint.id}`."
    if endpoint.id in facts.sealed:
        return (
            Cause.SEALED,
            "No request can be signed: the webhook's secrets are sealed with a main key that is not configured.",
        )
    if row.due_at is None:
        key = f"the ordering key `{row.ordering_key}`"
        return Cause.ORDERING, f"It waits for an earlier delivery of this webhook with {key}."
    so_far = _so_far(facts, endpoint, row)
    if row.due_at > now:
        if not so_far:
            return Cause.SCHEDULED, f"It is not to be delivered before {_at(row.due_at)}."
        last = facts.last_attempts.get(row.id)
        return Cause.BLOCKED if last is not None and _is_blocked(last.error) else Cause.RETRY, so_far
    cause, due = _due(facts, endpoint, row.due_at)
    return cause, f"{so_far} {due}".strip()


def _so_far(facts: Facts, endpoint: EndpointRow, row: DeliveryRow) -> str:
    """Tell of the attempts that failed."""
    if row.attempts == 0 or row.due_at is None:
        return ""
    schedule = facts.default_schedule if endpoint.retry_schedule is None else endpoint.retry_schedule
    last = facts.last_attempts.get(row.id)
    failed = "" if last is None else f" ({last.error or f'status {last.status}'})"
    next_one = f"; the next, retry {row.attempts} of {len(schedule)}, is due at {_at(row.due_at)}"
    return f"Attempt {row.attempts} failed{failed}{next_one}."


def _due(facts: Facts, endpoint: EndpointRow, due_at: datetime) -> tuple[Cause, str]:
    """Say why something that is due has not gone out."""
    cool_until = endpoint.health.cool_until
    if not facts.ownership.owned:
        return Cause.NO_WORKER, _who_works(facts.ownership)
    if cool_until is not None and cool_until > facts.ownership.now:
        return Cause.COOLING_DOWN, (
            f"The whole webhook cools down until {_at(cool_until)}, because the subscriber is overloaded or asked for it."
        )
    if endpoint.health.hung:
        return Cause.HUNG, "The subscriber hangs or refuses connections, so that only one request at a time goes out."
    if endpoint.rate_limit is not None:
        return Cause.RATE_LIMIT, (
            f"It is due since {_at(due_at)} and waits for its turn: the webhook gets {endpoint.rate_limit:g} requests a second."
        )
    return Cause.DUE, f"It is due since {_at(due_at)} and waits for its turn, or is being sent."


def _of_none(facts: Facts, endpoint: EndpointRow) -> tuple[Finding, str]:
    """Say why a webhook has no delivery of the event."""
    event = facts.event
    changed = endpoint.updated_at is not None and endpoint.updated_at > event.inserted_at
    since = f" Its settings were changed since, at {_at(endpoint.updated_at)}." if changed else ""
    if not facts.subscribed.get(endpoint.id, False):
        patterns = ", ".join(f"`{pattern}`" for pattern in endpoint.subscriptions[:5])
        more = ", …" if len(endpoint.subscriptions) > 5 else ""  # noqa: PLR2004 - as many as were named
        return Finding.NOT_SUBSCRIBED, f"It is subscribed to {patterns}{more}, not to `{event.event_type}`.{since}"
    if event.refused_at is not None:
        return Finding.REFUSED, "It is subscribed, but the event was refused before anybody's subscriptions were asked."
    if endpoint.id in facts.filtered and not facts.unread:
        now = f" It is now: `{endpoint.filter}`." if endpoint.filter else " It has none any more."
        return Finding.FILTERED, f"It is subscribed, but its filter, when the event was read, said no.{now}"
    if endpoint.archived_at is not None:
        return Finding.ARCHIVED, f"It was archived at {_at(endpoint.archived_at)}, before the event was read."
    if endpoint.created_at > event.inserted_at:
        return Finding.REGISTERED_LATER, f"It was created at {_at(endpoint.created_at)}, after the event."
    if (span := facts.disabled.get(endpoint.id)) is not None:
        return Finding.DISABLED, _disabled(span)
    if facts.unread:
        return Finding.NOT_READ_YET, "It is subscribed, and gets a delivery as soon as the event is read."
    return Finding.UNKNOWN, (
        "It is subscribed now, but was not when the event was read, or the record of its delivery is past "
        f"retention.{since}"
    )


def _disabled(span: DisabledSpan) -> str:
    if span.ended_at is None:
        return f"It is disabled since {_at(span.began_at)}: {span.reason}"
    during = f"from {_at(span.began_at)} to {_at(span.ended_at)}"
    return f"It was disabled when the event came in ({during}): {span.reason}"


def _answer(row: DeliveryRow) -> str:
    if row.error is not None:
        return f"; last: {row.error.removesuffix('.')}"
    return f"; last answer: status {row.status}" if row.status is not None else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _at(instant: datetime | None) -> str:
    return (
        "an unknown time"
        if instant is None
        else instant.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
    )
