"""Put into operational events what follows from attempts and from deliveries that were ended. Pure; writing is the store's."""

from collections.abc import Container, Iterator, Sequence

from dispatcher import operational
from dispatcher.deliver.send import Attempted, describe
from dispatcher.deliver.subscribers import Subscriber, Subscribers
from dispatcher.model import DeathReason, EndpointId, GiveUp
from dispatcher.operational import OperationalEvent, is_operational
from dispatcher.retry import HealthChange, disable_date
from dispatcher.store.deliveries import Killed


def of_attempts(
    written: Sequence[Attempted], *, disabled: Container[EndpointId], subscribers: Subscribers
) -> list[OperationalEvent]:
    """Return what results tell; `disabled` are the endpoints that were disabled by one of them just now."""
    events: list[OperationalEvent] = []
    for item in written:
        if is_operational(item.delivery.event.event_type):
            continue  # or they would feed on themselves
        if item.disabled:
            if item.delivery.endpoint_id in disabled:
                events.append(_disabled(item))
            continue
        subscriber = subscribers.get(item.delivery.endpoint_id)
        if subscriber is not None:
            events += _health(item, subscriber)
        events += _death(item)
    return events


def of_killed(reason: DeathReason, killed: Sequence[Killed]) -> Iterator[OperationalEvent]:
    """Tell of deliveries that were ended without an attempt."""
    for item in killed:
        if not is_operational(item.event_type):
            yield operational.dead(
                item.endpoint_id,
                delivery_id=item.id,
                event_id=item.event_id,
                event_type=item.event_type,
                reason=reason,
                attempts=item.attempts,
                manual=item.manual,
            )


def why_disabled(item: Attempted) -> str:
    """Say for what an attempt disabled its endpoint."""
    if item.change is HealthChange.DISABLE:
        return "it kept failing"
    status, _ = describe(item.outcome)
    if status == 410:  # noqa: PLR2004 - 410 Gone
        return "it answered 410 Gone"
    return "it answered with the header webhook-delivery: disable"


def _disabled(item: Attempted) -> OperationalEvent:
    status, error = describe(item.outcome)
    return operational.disabled(item.delivery.endpoint_id, reason=why_disabled(item), status=status, error=error)


def _health(item: Attempted, subscriber: Subscriber) -> Iterator[OperationalEvent]:
    if item.change is HealthChange.WARN:
        status, error = describe(item.outcome)
        yield operational.failing(
            item.delivery.endpoint_id,
            since=subscriber.health.failing_since,
            disable_at=disable_date(
                subscriber.health, warn_after=subscriber.warn_after, disable_after=subscriber.disable_after
            ),
            status=status,
            error=error,
        )
    elif item.change is HealthChange.RECOVERED:
        yield operational.recovered(item.delivery.endpoint_id)


def _death(item: Attempted) -> Iterator[OperationalEvent]:
    verdict = item.judgement.verdict
    if not isinstance(verdict, GiveUp) or verdict.reason is DeathReason.GONE:
        return
    status, error = describe(item.outcome)
    yield operational.dead(
        item.delivery.endpoint_id,
        delivery_id=item.delivery.id,
        event_id=item.delivery.event.id,
        event_type=item.delivery.event.event_type,
        reason=verdict.reason,
        attempts=item.delivery.attempts + 1,
        manual=item.delivery.manual,
        status=status,
        error=error,
    )
