"""Lanes: what is kept, what is read and when, and what happens as endpoints and shards come and go."""

from dataclasses import replace
from math import inf
from uuid import UUID

from dispatcher.lanes import FEW, SMALL, SMALLEST_PULL, Lanes
from dispatcher.model import EndpointId, EndpointState, Health, Shard
from support.lanes import (
    HUNG,
    NEUTRAL,
    NOW,
    OK,
    THROTTLED,
    endpoint,
    finish,
    ids,
    lanes_for,
    probe,
    read_up,
    rows,
    view,
)

# reading


def test_new_lane_reads_from_the_head_once() -> None:
    """Rows that were left by others are found without a word."""
    lanes = Lanes()
    lanes.set_endpoint(endpoint(), NOW)

    (pull,) = lanes.pulls(NOW, 100)
    lanes.pulled(pull, [], None, NOW)

    assert (-inf, 16) == (pull.after_due, pull.count)
    assert (lanes.pulls(NOW, 100), lanes.next_wake(NOW)) == ([], None)


def test_pulls_go_on_past_what_was_read() -> None:
    """A full answer is followed by a question from its last row on, when half of it is used up."""
    lanes = Lanes()
    lanes.set_endpoint(endpoint(), NOW)
    (pull,) = lanes.pulls(NOW, 100)
    lanes.pulled(pull, rows(16), None, NOW)
    assert lanes.pulls(NOW, 100) == []

    finish(lanes, lanes.start(NOW), OK)

    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW, 100)] == [(NOW, 16)]


def test_later_rows_wake_the_lane() -> None:
    """The earliest later row in the database is waited for."""
    lanes = Lanes()
    lanes.set_endpoint(endpoint(), NOW)

    read_up(lanes, next_due=NOW + 300)

    assert lanes.next_wake(NOW) == NOW + 300
    assert len(lanes.pulls(NOW + 300, 100)) == 1


def test_retry_is_read_when_it_is_due() -> None:
    """A recorded retry leaves memory, and comes back from the database."""
    lanes = lanes_for()
    lanes.hand_over(rows(1), NOW)

    finish(lanes, lanes.start(NOW), NEUTRAL)

    assert (lanes.next_wake(NOW), lanes.unrecorded) == (NOW + 300, 0)
    (pull,) = lanes.pulls(NOW + 300, 100)
    assert (pull.after_due, pull.after_id) == (NOW, 1)


def test_retry_that_is_told_late_is_not_overlooked() -> None:
    """When the cursor has passed a retry's due instant before it was told, it goes back."""
    lanes = lanes_for()
    (first, second) = rows(2)
    lanes.hand_over([first], NOW)
    lanes.start(NOW)
    lanes.finish(first, NEUTRAL, NOW)
    lanes.hand_over([replace(second, due_at=NOW + 5)], NOW + 5)

    lanes.recorded(first.endpoint_id, first.id, NOW + 1)

    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW + 5, 100)] == [(NOW + 1, 0)]


def test_row_before_the_cursor_is_read() -> None:
    """A note of something due earlier than what was read moves the cursor back."""
    lanes = lanes_for()
    lanes.hand_over(rows(1), NOW)
    lanes.start(NOW)

    lanes.note(endpoint().id, NOW - 60)

    assert [pull.after_due for pull in lanes.pulls(NOW, 100)] == [NOW - 60]


def test_what_is_in_memory_is_not_taken_in_again() -> None:
    """A read from the head ignores rows that are held, in flight or unrecorded, and goes on behind them."""
    lanes = lanes_for()
    made = rows(9)
    lanes.hand_over(made, NOW)
    started = lanes.start(NOW)
    lanes.finish(started[0], NEUTRAL, NOW)

    lanes.rewind(endpoint().id)
    (pull,) = lanes.pulls(NOW, 9)
    lanes.pulled(pull, made, None, NOW)

    assert (-inf, 9, 5) == (pull.after_due, pull.count, lanes.held)
    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW, 9)] == [(NOW, 9)]


def test_answer_that_is_older_than_a_record_is_not_believed() -> None:
    """A row recorded while a pull was read may be in the answer as it was before."""
    lanes = lanes_for()
    made = rows(1)
    lanes.hand_over(made, NOW)
    lanes.start(NOW)
    lanes.rewind(endpoint().id)
    (pull,) = lanes.pulls(NOW, 9)

    finish(lanes, made, NEUTRAL)
    lanes.pulled(pull, made, None, NOW)

    assert (lanes.start(NOW), lanes.next_wake(NOW)) == ([], NOW + 300)


def test_rows_handed_over_while_reading_come_after_what_is_read() -> None:
    """The end of a backlog joins the fresh rows without a gap or a detour."""
    lanes = lanes_for()
    lanes.note(endpoint().id, NOW)
    (pull,) = lanes.pulls(NOW, 9)
    lanes.hand_over(rows(2, first=10), NOW)

    lanes.pulled(pull, rows(1), None, NOW)

    assert ids(lanes.start(NOW)) == [1, 10, 11]
    assert None is lanes.next_wake(NOW)


def test_rows_handed_over_to_a_backlog_wait_for_their_turn() -> None:
    """While older rows are unread, new ones stay in the database."""
    lanes = lanes_for()
    lanes.note(endpoint().id, NOW - 1)
    (pull,) = lanes.pulls(NOW, 8)
    lanes.hand_over(rows(2, first=10), NOW)

    lanes.pulled(pull, rows(8, due_at=NOW - 1), None, NOW)

    assert lanes.held == 8


def test_first_rows_of_a_burst_are_kept_and_the_rest_read_later() -> None:
    """What finds no room is read from where memory ends."""
    lanes = lanes_for(held=5)

    lanes.hand_over(rows(9), NOW)
    assert ids(lanes.start(NOW)) == [1, 2, 3, 4]

    assert (4 + lanes.held, [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW, 100)]) == (5, [(NOW, 5)])


def test_rows_that_find_no_room_any_more_are_read_again() -> None:
    """A rate limit set while rows are read makes room for fewer."""
    lanes = lanes_for()
    lanes.note(endpoint().id, NOW)
    (pull,) = lanes.pulls(NOW, 9)
    lanes.set_endpoint(endpoint(rate_limit=1), NOW)

    lanes.pulled(pull, rows(9), None, NOW)

    assert lanes.held == 3
    finish(lanes, lanes.start(NOW), OK)
    finish(lanes, lanes.start(NOW + 1), OK, NOW + 1)
    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW + 1, 9)] == [(NOW, 3)]


def test_row_stamped_by_a_clock_ahead_of_ours_is_due() -> None:
    """Fan-out's rows are due now, even if we think that it is a little earlier."""
    lanes = lanes_for()

    lanes.hand_over(rows(1, due_at=NOW + 0.01), NOW)

    assert len(lanes.start(NOW)) == 1


def test_scheduled_row_waits_in_the_database() -> None:
    """A row with a later due instant is not held in memory."""
    lanes = lanes_for()

    lanes.hand_over(rows(1, due_at=NOW + 60), NOW)

    assert (lanes.held, lanes.next_wake(NOW)) == (0, NOW + 60)


def test_many_readers_share_a_pull() -> None:
    """The limit is shared out in turn, in portions worth a query."""
    lanes = Lanes()
    for number in range(1, 7):
        lanes.set_endpoint(endpoint(number), NOW)

    first, second = (lanes.pulls(NOW, 3 * SMALLEST_PULL) for _ in range(2))

    assert [pull.count for pull in [*first, *second]] == [SMALLEST_PULL] * 6
    assert [pull.endpoint_id.int for pull in [*first, *second]] == [1, 2, 3, 4, 5, 6]


def test_failed_pull_is_asked_again() -> None:
    """A lost database costs a question, not a row."""
    lanes = Lanes()
    lanes.set_endpoint(endpoint(), NOW)
    (pull,) = lanes.pulls(NOW, 10)

    lanes.pull_failed(pull, NOW)

    assert [-inf] == [again.after_due for again in lanes.pulls(NOW, 10)]


def test_released_delivery_is_read_again() -> None:
    """What was not sent after all waits in the database."""
    lanes = lanes_for()
    lanes.hand_over(rows(1), NOW)

    lanes.release(lanes.start(NOW)[0])

    assert (lanes.in_flight(), lanes.in_flight(Shard(1))) == (0, 0)
    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW, 10)] == [(NOW, 0)]


def test_skipped_delivery_frees_its_slot_and_waits_to_be_recorded() -> None:
    """A delivery that expired while it was held ends without a judgement."""
    lanes = lanes_for()
    lanes.hand_over(rows(1), NOW)

    lanes.skip(lanes.start(NOW)[0], NOW)

    assert (lanes.in_flight(), lanes.unrecorded, lanes.in_flight(Shard(1))) == (0, 1, 1)


# endpoints and shards


def test_work_for_an_unknown_endpoint_waits_until_it_is_set() -> None:
    """Work is never refused for lack of knowledge."""
    lanes = Lanes()
    lanes.hand_over(rows(1), NOW)
    lanes.note(EndpointId(UUID(int=2)), NOW)

    assert {endpoint(1).id, endpoint(2).id} == lanes.unknown()
    lanes.set_endpoint(endpoint(1), NOW)
    lanes.forget_endpoint(endpoint(2).id)
    assert (set(), 1) == (lanes.unknown(), len(lanes.pulls(NOW, 10)))


def test_paused_endpoint_holds_and_reads_from_the_head_when_resumed() -> None:
    """A pause frees memory; resuming drains what waits, from the oldest on."""
    lanes = lanes_for()
    lanes.hand_over(rows(9), NOW)

    lanes.set_endpoint(endpoint(state=EndpointState.PAUSED), NOW)
    lanes.hand_over(rows(1, first=20), NOW)
    assert (lanes.start(NOW), lanes.pulls(NOW, 9), lanes.held, lanes.next_wake(NOW)) == ([], [], 0, None)

    lanes.set_endpoint(endpoint(), NOW)
    assert [-inf] == [pull.after_due for pull in lanes.pulls(NOW, 9)]


def test_enabled_endpoint_starts_afresh() -> None:
    """A person's change of state ends hanging and pauses, as far as the database agrees."""
    lanes = lanes_for()
    probe(lanes, NOW, HUNG)
    lanes.set_endpoint(endpoint(state=EndpointState.DISABLED), NOW)

    lanes.set_endpoint(endpoint(), NOW)

    assert (view(lanes).hung, view(lanes).cool_until, view(lanes).limit) == (False, None, 4)


def test_changed_settings_do_not_touch_health() -> None:
    """What a lane has learnt is newer than what was read with the settings."""
    lanes = lanes_for()
    lanes.set_health(endpoint().id, Health(failing_since=NOW))
    probe(lanes, NOW, HUNG)

    lanes.set_endpoint(replace(endpoint(), url="https://example.org/"), NOW)

    assert Health(failing_since=NOW, cool_until=NOW + 0.5, hung=True) == lanes.health(endpoint().id)
    changed = lanes.endpoint(endpoint().id)
    assert changed is not None
    assert changed.url == "https://example.org/"


def test_shard_drains_before_it_is_given_back() -> None:
    """A held shard starts nothing more; it is drained when all results are recorded."""
    lanes = lanes_for()
    lanes.hand_over(rows(9), NOW)
    started = lanes.start(NOW)

    lanes.hold_shard(Shard(1))
    assert (lanes.start(NOW), lanes.pulls(NOW, 9), lanes.in_flight(Shard(1))) == ([], [], 4)

    for delivery in started:
        lanes.finish(delivery, OK, NOW)
    assert (lanes.in_flight(), lanes.in_flight(Shard(1))) == (0, 4)
    for delivery in started:
        lanes.recorded(delivery.endpoint_id, delivery.id, None)
    assert lanes.in_flight(Shard(1)) == 0


def test_lost_shard_leaves_nothing_but_what_is_in_flight() -> None:
    """Late answers and late results of a lost shard are taken without harm."""
    lanes = lanes_for(held=6)
    lanes.hand_over(rows(6), NOW)
    started = lanes.start(NOW)
    finish(lanes, started[:3], OK)
    lanes.rewind(endpoint().id)
    (pull,) = lanes.pulls(NOW, 9)
    lanes.hand_over(rows(1, first=20), NOW)

    lanes.forget_shard(Shard(1))
    lanes.pulled(pull, rows(9), None, NOW)

    assert (lanes.held, lanes.in_flight(), lanes.next_wake(NOW)) == (0, 1, None)
    finish(lanes, started[3:], OK)
    assert (lanes.in_flight(), lanes.in_flight(Shard(1))) == (0, 0)


def test_shard_won_back_does_not_send_twice_what_is_still_in_flight() -> None:
    """A request outlives the loss of its shard; the new lane knows of it, and answers to the old one are ignored."""
    lanes = lanes_for()
    made = rows(1)
    lanes.hand_over(made, NOW)
    lanes.start(NOW)
    lanes.rewind(endpoint().id)
    (old,) = lanes.pulls(NOW, 9)
    lanes.forget_shard(Shard(1))
    lanes.set_endpoint(endpoint(), NOW)
    (new,) = lanes.pulls(NOW, 9)

    lanes.pulled(old, rows(9), None, NOW)
    lanes.pulled(new, made, None, NOW)
    assert (lanes.start(NOW), lanes.held) == ([], 0)

    finish(lanes, made, NEUTRAL)
    assert lanes.next_wake(NOW) == NOW + 300


# memory


def test_memory_is_bounded_and_the_last_quarter_is_for_lanes_that_hold_nothing() -> None:
    """However much waits, a lane's first delivery finds room."""
    lanes = lanes_for(endpoint(1), endpoint(2), held_total=40, total_in_flight=0)

    lanes.hand_over(rows(100, number=1), NOW)
    assert lanes.held == 30

    lanes.hand_over(rows(1, number=2, first=1000), NOW)
    assert lanes.held == 31


def test_lane_that_cannot_send_holds_nothing() -> None:
    """Memory is for those who can use it: a pause gives it back."""
    lanes = lanes_for()
    lanes.hand_over(rows(100), NOW)

    finish(lanes, lanes.start(NOW)[:1], THROTTLED)

    assert lanes.held == 0
    assert [(pull.after_due, pull.after_id) for pull in lanes.pulls(NOW + 1, 100)] == [(NOW, 4)]


def test_idle_lanes_are_evicted_and_others_stay() -> None:
    """A lane goes when it has nothing to remember: no rows, no later ones, no trouble."""
    lanes = lanes_for(*(endpoint(number) for number in range(1, 6)))
    lanes.hand_over(rows(1, number=2), NOW)
    lanes.start(NOW)
    lanes.note(endpoint(3).id, NOW + 5000)
    lanes.set_health(endpoint(4).id, Health(failing_since=NOW))
    lanes.set_endpoint(endpoint(5, state=EndpointState.DISABLED), NOW)

    assert lanes.evict(NOW + 599) == []
    assert [endpoint(1).id, endpoint(5).id] == lanes.evict(NOW + 600)


def test_heap_of_wake_times_does_not_grow_with_retries() -> None:
    """Thousands of short waits before a long one leave no trace."""
    lanes = lanes_for()
    now = NOW
    for _ in range(5000):
        read_up(lanes, now, next_due=NOW + 1e6)
        lanes.note(endpoint().id, now + 1)
        now += 1

    assert len(lanes._turns._heap) < 3000


def test_oldest_due_is_that_of_memory_or_of_what_is_unread() -> None:
    """The age of what waits is seen whether or not it was read; what is paused waits by intent."""
    lanes = lanes_for(endpoint(1), endpoint(2))
    assert None is lanes.oldest_due()
    lanes.hand_over(rows(1, number=1), NOW)
    lanes.note(endpoint(2).id, NOW - 5)

    assert lanes.oldest_due() == NOW - 5
    lanes.set_endpoint(endpoint(2, state=EndpointState.PAUSED), NOW)
    assert lanes.oldest_due() == NOW
    assert {1, 2} == {view.endpoint_id.int for view in lanes.views()}


def test_large_payloads_are_held_by_the_hundred_and_small_ones_by_the_thousand() -> None:
    """One endpoint's backlog takes some megabytes, whatever its events are."""
    lanes = lanes_for(held=1000)
    large = [replace(row, event=replace(row.event, payload="x" * (SMALL + 1))) for row in rows(FEW + 1)]

    lanes.hand_over(large, NOW)
    held = lanes.held
    lanes.forget_endpoint(large[0].endpoint_id)
    lanes.set_endpoint(endpoint(), NOW)
    read_up(lanes)
    lanes.hand_over(rows(FEW + 1), NOW)

    assert (held, lanes.held) == (FEW, FEW + 1)
