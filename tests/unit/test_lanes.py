"""Lanes: whose turn it is, how fast a lane goes, and when it rests."""

from dataclasses import replace

import pytest

from dispatcher.lanes import Lanes
from dispatcher.model import Health, Judgement, Pressure, Retry
from support.lanes import (
    GONE,
    HUNG,
    NEUTRAL,
    NOW,
    OK,
    STRAINED,
    THROTTLED,
    endpoint,
    finish,
    ids,
    lanes_for,
    probe,
    rows,
    view,
)

# fairness


def test_handed_over_rows_start_at_once() -> None:
    """What fan-out made is sent without being read back."""
    lanes = lanes_for()
    made = rows(2)

    lanes.hand_over(made, NOW)

    assert made == lanes.start(NOW)
    assert lanes.pulls(NOW, 100) == []


def test_scarce_slots_go_to_lanes_with_the_fewest_in_flight() -> None:
    """A lane with much waiting never stands before one with a single delivery."""
    lanes = lanes_for(endpoint(1), endpoint(2), total_in_flight=3)
    lanes.hand_over(rows(100, number=1), NOW)
    busy = lanes.start(NOW)
    lanes.hand_over(rows(1, number=2, first=1000), NOW)

    finish(lanes, busy[:1], OK)

    assert ids(lanes.start(NOW)) == [1000]


def test_a_result_keeps_its_slot_until_it_is_recorded() -> None:
    """What a crash may repeat is no more than the limit: requests in flight, and results that are not written down."""
    lanes = lanes_for(total_in_flight=3)
    lanes.hand_over(rows(5), NOW)
    first, *_ = lanes.start(NOW)

    lanes.finish(first, OK, NOW)

    assert lanes.start(NOW) == []
    assert lanes.next_wake(NOW) is None
    lanes.recorded(first.endpoint_id, first.id, None)
    assert ids(lanes.start(NOW)) == [4]


def test_lanes_take_turns() -> None:
    """With room for all, lanes alternate."""
    lanes = lanes_for(endpoint(1), endpoint(2))

    lanes.hand_over([*rows(3, number=1), *rows(3, number=2, first=11)], NOW)

    assert ids(lanes.start(NOW)) == [1, 11, 2, 12, 3, 13]


def test_start_keeps_to_its_limit_and_goes_on_next_time() -> None:
    """What a limited start leaves is asked for again at once."""
    lanes = lanes_for()
    lanes.hand_over(rows(3), NOW)

    assert ids(lanes.start(NOW, 2)) == [1, 2]
    assert lanes.next_wake(NOW) == NOW
    assert ids(lanes.start(NOW)) == [3]


# pace


def test_in_flight_doubles_with_each_round_of_successes_up_to_the_limit() -> None:
    """Growth is one per success."""
    lanes = lanes_for()
    lanes.hand_over(rows(200), NOW)
    rounds = []
    for _ in range(6):
        started = lanes.start(NOW)
        rounds.append(len(started))
        finish(lanes, started, OK)

    assert rounds == [4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize("judgement", [STRAINED, THROTTLED], ids=["5xx", "429"])
def test_burst_of_failures_halves_once(judgement: Judgement) -> None:
    """Failures of one round count as one, and later ones of it not at all."""
    lanes = lanes_for()
    lanes.hand_over(rows(200), NOW)
    finish(lanes, lanes.start(NOW), OK)
    started = lanes.start(NOW)

    finish(lanes, started[:7], judgement)
    finish(lanes, started[7:], OK)

    assert (len(started), view(lanes).limit) == (8, 4)


def test_limit_never_falls_below_one() -> None:
    """A lane that only ever gets 500 sends one at a time."""
    lanes = lanes_for()
    lanes.hand_over(rows(100), NOW)
    for _ in range(5):
        finish(lanes, lanes.start(NOW), STRAINED)

    assert 1 == view(lanes).limit == len(lanes.start(NOW))


def test_other_failures_leave_the_pace_alone() -> None:
    """A 404 says nothing about load."""
    lanes = lanes_for()
    lanes.hand_over(rows(4), NOW)

    finish(lanes, lanes.start(NOW), NEUTRAL)

    assert (view(lanes).limit, view(lanes).cool_until) == (4, None)


def test_hanging_endpoint_is_probed_one_at_a_time() -> None:
    """After a time-out, one request at a time, until one is answered."""
    lanes = lanes_for()
    lanes.hand_over(rows(10), NOW)
    started = lanes.start(NOW)
    now = NOW + 1

    lanes.finish(started[0], HUNG, NOW)
    assert lanes.pulls(now, 100) == [], "three are still in flight"

    for delivery in started[1:]:
        lanes.finish(delivery, HUNG, NOW)
    (pull,) = lanes.pulls(now, 100)
    assert (pull.count, pull.after_id) == (1, 4)
    lanes.pulled(pull, rows(1, first=5), None, now)
    (probe,) = lanes.start(now)
    lanes.note(probe.endpoint_id, NOW)
    assert (lanes.pulls(now, 100), lanes.start(now)) == ([], [])

    finish(lanes, [probe], OK, now)
    assert (view(lanes).hung, view(lanes).limit) == (False, 2)


def test_any_answer_ends_hanging() -> None:
    """A refusal shows that somebody is there, but gives no reason to send more at once."""
    lanes = lanes_for()
    lanes.hand_over(rows(2), NOW)
    started = lanes.start(NOW)

    finish(lanes, started[:1], HUNG)
    finish(lanes, started[1:], NEUTRAL)

    assert (view(lanes).hung, view(lanes).limit) == (False, 1)


def test_pause_between_probes_doubles_up_to_the_longest() -> None:
    """An endpoint that stays away is asked ever more rarely, but at least every 30 s."""
    lanes, now, pauses = lanes_for(), NOW, []
    for first in range(1, 10):
        pauses.append(probe(lanes, now, HUNG, first))
        now += pauses[-1]

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_success_resets_the_pause() -> None:
    """After a success, the next pause is the first one again."""
    lanes = lanes_for()
    judgements = [THROTTLED, THROTTLED, OK, THROTTLED]

    pauses = [probe(lanes, NOW + 10 * n, judgement, n + 1) for n, judgement in enumerate(judgements)]

    assert pauses == [0.5, 1.0, 0.0, 0.5]


def test_pause_is_no_longer_than_the_retry_delay() -> None:
    """A lone delivery is tried on its own schedule."""
    lanes = lanes_for()
    judgement = Judgement(Retry(0.75), Pressure.HUNG)

    pauses = [probe(lanes, NOW + 10 * n, judgement, n + 1) for n in range(4)]

    assert pauses == [0.5, 0.75, 0.75, 0.75]


def test_retry_after_holds_the_whole_lane() -> None:
    """For as long as the subscriber asked, nothing is started or read, whatever else succeeds."""
    lanes = lanes_for()
    lanes.hand_over(rows(10), NOW)
    started = lanes.start(NOW)

    finish(lanes, started[:1], replace(THROTTLED, pause=120))
    finish(lanes, started[1:], OK)
    lanes.hand_over(rows(1, first=50), NOW)

    assert (lanes.start(NOW + 119), lanes.pulls(NOW + 119, 100), lanes.next_wake(NOW + 119)) == ([], [], NOW + 120)
    assert Health(cool_until=NOW + 120) == lanes.health(endpoint().id)
    assert [pull.after_due for pull in lanes.pulls(NOW + 120, 100)] == [NOW]


def test_new_owner_goes_on_with_what_was_written_down() -> None:
    """A lane begins hung, or pausing, where the last owner left it."""
    health = Health(failing_since=NOW - 60, cool_until=NOW + 5, hung=True)
    lanes = Lanes()
    lanes.set_endpoint(endpoint(health=health), NOW)

    assert ([], NOW + 5, health) == (lanes.pulls(NOW, 100), lanes.next_wake(NOW), lanes.health(endpoint().id))
    assert [pull.count for pull in lanes.pulls(NOW + 5, 100)] == [1]


def test_endpoint_that_is_gone_gets_nothing_more() -> None:
    """410 stops the lane at once, before it is written down."""
    lanes = lanes_for()
    lanes.hand_over(rows(10), NOW)
    started = lanes.start(NOW)

    finish(lanes, started[:1], GONE)

    assert (lanes.start(NOW), lanes.pulls(NOW, 100), lanes.held) == ([], [], 0)


# rate


def starts_at(lanes: Lanes, until: float) -> list[float]:
    """Follow `next_wake`, succeed at all, and return the instants of the starts."""
    now, instants = NOW, []
    while now <= until:
        started = lanes.start(now)
        instants += [now - NOW] * len(started)
        finish(lanes, started, OK, now)
        wake = lanes.next_wake(now)
        if wake is None:
            break
        now = wake
    return instants


def test_slow_rate_spaces_requests_evenly() -> None:
    """Below ten a second, nothing is saved up."""
    lanes = lanes_for(endpoint(rate_limit=2))
    lanes.hand_over(rows(5), NOW)

    assert starts_at(lanes, NOW + 10) == [0, 0.5, 1, 1.5, 2]


def test_fast_rate_saves_up_a_tenth_of_a_second() -> None:
    """100 a second are ten at once, then one every 10 ms; over time exactly the rate."""
    lanes = lanes_for(endpoint(rate_limit=100))
    lanes.hand_over(rows(200), NOW)

    instants = starts_at(lanes, NOW + 10)

    assert [pytest.approx(max(0, (n - 9) / 100), abs=1e-5) for n in range(200)] == instants


def test_new_rate_holds_from_the_next_request() -> None:
    """A faster rate does not wait for the debt of the slower one, and starts with no burst."""
    lanes = lanes_for(endpoint(rate_limit=0.5))
    lanes.hand_over(rows(1), NOW)
    lanes.start(NOW)

    lanes.set_endpoint(endpoint(rate_limit=2), NOW)
    lanes.hand_over(rows(1, first=2), NOW)

    assert (lanes.start(NOW), lanes.next_wake(NOW)) == ([], NOW + 0.5)


def test_rate_limited_lane_holds_little() -> None:
    """Memory holds what may be sent within two seconds."""
    lanes = lanes_for(endpoint(rate_limit=3))

    lanes.hand_over(rows(100), NOW)

    assert lanes.held == 7
