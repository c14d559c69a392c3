"""What a worker counts in memory, and how it hands it over."""

from uuid import UUID

import pytest

from dispatcher.deliver.send import Attempted
from dispatcher.model import (
    Answered,
    Blocked,
    DeathReason,
    Delivery,
    DeliveryId,
    DeliveryState,
    EndpointId,
    GiveUp,
    Judgement,
    Outcome,
    Pressure,
    Shard,
    Unreachable,
    UnreachableReason,
)
from dispatcher.tally import BLOCKED, CLASSES, DEAD, LATENCIES, QUARTER, Backlog, Tally
from support.clock import FakeClock
from support.lanes import EVENT, NEUTRAL, OK

NOON = 1_767_268_800
"""Unix seconds; the start of an hour."""

DEATH = Judgement(GiveUp(DeathReason.EXHAUSTED), Pressure.NEUTRAL)


def answered(status: int, seconds: float = 0.05) -> Answered:
    """Make an answer."""
    return Answered(status, (), b"", False, seconds, None)


def attempted(outcome: Outcome, judgement: Judgement = NEUTRAL, *, number: int = 1, endpoint: int = 1) -> Attempted:
    """Make a result of a delivery."""
    delivery = Delivery(DeliveryId(number), Shard(1), EndpointId(UUID(int=endpoint)), EVENT, 0.0, 0.0, 0)
    return Attempted(delivery, outcome, judgement, 0.0, 0.0, None, False, None)


@pytest.fixture
def clock() -> FakeClock:
    """Noon."""
    return FakeClock(NOON)


@pytest.mark.parametrize(
    "outcome, name",
    [
        pytest.param(answered(204), "2xx", id="2xx"),
        pytest.param(answered(301), "3xx", id="3xx"),
        pytest.param(answered(410), "4xx", id="4xx"),
        pytest.param(answered(503), "5xx", id="5xx"),
        pytest.param(answered(999), "5xx", id="no class of HTTP's"),
        pytest.param(answered(7000), "5xx", id="no status at all"),
        pytest.param(Unreachable(UnreachableReason.DNS, "", 0.1, None), "unreachable", id="unreachable"),
        pytest.param(Blocked("", 0.0, None), "blocked", id="blocked"),
    ],
)
def test_attempts_are_counted_by_what_they_came_to(clock: FakeClock, outcome: Outcome, name: str) -> None:
    """For the service and for the endpoint; what was not sent has no latency."""
    tally = Tally(clock)

    tally.recorded([attempted(outcome)], {DeliveryId(1)})

    (minute,) = tally.take_minutes()
    (quarter,) = tally.take_quarters(10)
    expected = [int(name == one) for one in CLASSES]
    assert minute.attempts == expected
    assert quarter.counts == [*expected, 0]
    assert sum(minute.latencies) == int(name != CLASSES[BLOCKED])
    assert minute.ended == [0, 0, 0]


@pytest.mark.parametrize(
    "seconds, place",
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.05, LATENCIES.index(0.05)), (30.0, len(LATENCIES) - 1), (31.0, -1)],
)
def test_latencies_are_counted_up_to_their_bounds(clock: FakeClock, seconds: float, place: int) -> None:
    """A bound belongs to its class; what is beyond all has one, too."""
    tally = Tally(clock)

    tally.recorded([attempted(answered(200, seconds))], {DeliveryId(1)})

    assert tally.take_minutes()[0].latencies[place] == 1


def test_ends_are_counted_once(clock: FakeClock) -> None:
    """Delivered, dead, or cancelled; a result that was written before counts for nothing."""
    tally = Tally(clock)
    batch = [
        attempted(answered(200), OK, number=1),
        attempted(answered(500), DEATH, number=2),
        attempted(answered(200), OK, number=3),
    ]

    tally.recorded(batch, {DeliveryId(1), DeliveryId(2)})
    tally.ended(EndpointId(UUID(int=1)), DeliveryState.DEAD, 5)
    tally.ended(EndpointId(UUID(int=1)), DeliveryState.CANCELLED, 7)

    (minute,) = tally.take_minutes()
    (quarter,) = tally.take_quarters(10)
    assert minute.ended == [1, 6, 7]
    assert sum(minute.attempts) == 2
    assert quarter.counts[DEAD] == 6


def test_each_minute_and_each_quarter_has_its_own(clock: FakeClock) -> None:
    """By the instant at which the result is recorded; the minute that runs is there, counts or none."""
    tally = Tally(clock)
    for seconds in (10.0, 60.0, QUARTER):
        tally.recorded([attempted(answered(200), OK)], {DeliveryId(1)})
        clock.advance(seconds)

    assert [(minute.start - NOON, minute.ended[0]) for minute in tally.take_minutes()] == [
        (0, 2),
        (60, 1),
        (960, 0),
    ]
    assert [(quarter.start - NOON, quarter.counts[0]) for quarter in tally.take_quarters(10)] == [(0, 3)]
    assert [minute.ended for minute in tally.take_minutes()] == [[0, 0, 0]]
    assert tally.take_quarters(10) == []


def test_where_many_are_busy_each_has_its_turn(clock: FakeClock) -> None:
    """Those that have waited longest go first, so that none is passed over for ever."""
    tally = Tally(clock)
    for endpoint in (1, 2, 3):
        tally.recorded([attempted(answered(200), OK, endpoint=endpoint)], {DeliveryId(1)})

    first = tally.take_quarters(2)
    tally.recorded([attempted(answered(200), OK, endpoint=1)], {DeliveryId(1)})
    second = tally.take_quarters(2)

    assert [quarter.endpoint_id.int for quarter in first] == [1, 2]
    assert [quarter.endpoint_id.int for quarter in second] == [3, 1]


def test_what_is_given_back_adds_to_what_came_since(clock: FakeClock) -> None:
    """Nothing is lost when it could not be written."""
    tally = Tally(clock)
    tally.recorded([attempted(answered(200), OK)], {DeliveryId(1)})
    minutes, quarters = tally.take_minutes(), tally.take_quarters(10)
    tally.recorded([attempted(answered(500), DEATH)], {DeliveryId(1)})

    tally.give_back(minutes, quarters)

    (minute,) = tally.take_minutes()
    (quarter,) = tally.take_quarters(10)
    assert (minute.attempts[0], minute.attempts[3], minute.ended) == (1, 1, [1, 1, 0])
    assert sum(minute.latencies) == 2
    assert quarter.counts == [1, 0, 0, 1, 0, 0, 1]


def test_the_backlog_is_the_one_last_seen(clock: FakeClock) -> None:
    """It is no sum."""
    tally = Tally(clock)

    tally.waits(5, oldest_seconds=1.0)
    tally.waits(3, oldest_seconds=2.0)

    assert tally.backlog == Backlog(3, 2.0)
