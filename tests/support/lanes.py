"""What tests of lanes share: endpoints, rows and judgements made in a line, lanes that have read all there is."""

from uuid import UUID

from dispatcher.lane import LaneView
from dispatcher.lanes import Lanes
from dispatcher.model import (
    DeathReason,
    Delivery,
    DeliveryId,
    Done,
    Endpoint,
    EndpointId,
    EndpointState,
    Event,
    EventId,
    GiveUp,
    Health,
    Judgement,
    Pressure,
    Retry,
    Shard,
)

NOW = 1_700_000_000.0
EVENT = Event(EventId(UUID(int=0)), "acme", "appointment.created", "{}", NOW, NOW)

OK = Judgement(Done(), Pressure.OK)
NEUTRAL = Judgement(Retry(300), Pressure.NEUTRAL)
STRAINED = Judgement(Retry(300), Pressure.STRAINED)
THROTTLED = Judgement(Retry(300), Pressure.THROTTLED)
HUNG = Judgement(Retry(300), Pressure.HUNG)
GONE = Judgement(GiveUp(DeathReason.GONE), Pressure.NEUTRAL, disable=True)


def endpoint(
    number: int = 1,
    *,
    state: EndpointState = EndpointState.ACTIVE,
    rate_limit: float | None = None,
    health: Health | None = None,
) -> Endpoint:
    """Make an endpoint of shard 1."""
    return Endpoint(
        id=EndpointId(UUID(int=number)),
        shard=Shard(1),
        tenant="acme",
        url="https://example.com/",
        state=state,
        secrets=(),
        rate_limit=rate_limit,
        health=health or Health(),
    )


def rows(count: int, *, number: int = 1, first: int = 1, due_at: float = NOW) -> list[Delivery]:
    """Make pending rows of an endpoint, all due at one instant."""
    return [
        Delivery(DeliveryId(id_), Shard(1), EndpointId(UUID(int=number)), EVENT, due_at, NOW, 0)
        for id_ in range(first, first + count)
    ]


def read_up(lanes: Lanes, now: float = NOW, next_due: float | None = None) -> None:
    """Answer all pulls with nothing."""
    while pulls := lanes.pulls(now, 1000):
        for pull in pulls:
            lanes.pulled(pull, [], next_due, now)


def lanes_for(*endpoints: Endpoint, total_in_flight: int = 512, held: int = 200, held_total: int = 20_000) -> Lanes:
    """Make lanes that have read all there is, which is nothing."""
    lanes = Lanes(total_in_flight=total_in_flight, held=held, held_total=held_total)
    for one in endpoints or [endpoint()]:
        lanes.set_endpoint(one, NOW)
    read_up(lanes)
    return lanes


def view(lanes: Lanes, number: int = 1) -> LaneView:
    """Look at a lane that exists."""
    found = lanes.view(EndpointId(UUID(int=number)))
    assert found is not None
    return found


def finish(lanes: Lanes, deliveries: list[Delivery], judgement: Judgement, now: float = NOW) -> None:
    """Finish and record deliveries, one after the other."""
    for delivery in deliveries:
        lanes.finish(delivery, judgement, now)
        again = now + judgement.verdict.delay if isinstance(judgement.verdict, Retry) else None
        lanes.recorded(delivery.endpoint_id, delivery.id, again)


def ids(deliveries: list[Delivery]) -> list[int]:
    """Name deliveries."""
    return [delivery.id for delivery in deliveries]


def probe(lanes: Lanes, now: float, judgement: Judgement, first: int = 1) -> float:
    """Send one delivery, finish it and return for how long the lane rests."""
    lanes.hand_over(rows(1, first=first, due_at=now), now)
    for pull in lanes.pulls(now, 10):
        lanes.pulled(pull, rows(1, first=first, due_at=now), None, now)
    finish(lanes, lanes.start(now), judgement, now)
    return (view(lanes).cool_until or now) - now
