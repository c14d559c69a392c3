"""Guessing passwords: how fast it goes."""

from dispatcher.console.throttle import FORGOTTEN, FREE, LONGEST, MOST, Key, Throttle
from support.clock import FakeClock

ANNA: Key = ("name", "anna")
HERE: Key = ("address", "192.0.2.1")


def tried(throttle: Throttle, *keys: Key, times: int) -> list[float]:
    """How long each of some tries at one moment has to wait."""
    return [throttle.take(*keys) for _ in range(times)]


def test_some_mistakes_cost_nothing() -> None:
    """Who mistypes a few times goes on at once."""
    throttle = Throttle(monotonic=FakeClock().monotonic)

    assert tried(throttle, ANNA, HERE, times=FREE) == [0.0] * FREE


def test_tries_at_one_moment_do_not_slip_through_together() -> None:
    """A try counts when it begins, not when it has failed."""
    throttle = Throttle(monotonic=FakeClock().monotonic)

    waits = tried(throttle, ANNA, HERE, times=20)

    assert [wait == 0 for wait in waits] == [True] * (FREE + 1) + [False] * (20 - FREE - 1)


def test_each_further_failure_doubles_the_pause() -> None:
    """2 s, 4 s, 8 s."""
    clock = FakeClock()
    throttle = Throttle(monotonic=clock.monotonic)
    tried(throttle, ANNA, times=FREE)
    pauses = []

    for _ in range(3):
        throttle.take(ANNA)
        pauses.append(throttle.take(ANNA))
        clock.advance(pauses[-1])

    assert pauses == [2.0, 4.0, 8.0]


def test_pauses_have_an_end_however_often_somebody_fails() -> None:
    """Thousands of failures make no number that is too large, and a name is shut for a minute at most."""
    clock = FakeClock()
    throttle = Throttle(monotonic=clock.monotonic)

    for _ in range(3000):
        clock.advance(throttle.take(ANNA, HERE))
        throttle.take(ANNA, HERE)

    assert (0 < throttle.take(ANNA) <= LONGEST["name"], 0 < throttle.take(HERE) <= LONGEST["address"]) == (True, True)


def test_an_address_is_held_back_whatever_name_it_tries() -> None:
    """Going through names is no way around."""
    throttle = Throttle(monotonic=FakeClock().monotonic)

    waits = [throttle.take(("name", str(number)), HERE) for number in range(FREE + 2)]

    assert waits[-1] > 0


def test_others_are_not_held_back() -> None:
    """Another name at another place goes on at once."""
    throttle = Throttle(monotonic=FakeClock().monotonic)
    tried(throttle, ANNA, HERE, times=20)

    assert throttle.take(("name", "bob"), ("address", "192.0.2.2")) == 0


def test_success_forgets_failures() -> None:
    """Who is in begins anew."""
    throttle = Throttle(monotonic=FakeClock().monotonic)
    tried(throttle, ANNA, HERE, times=FREE)

    throttle.succeeded(ANNA, HERE)

    assert tried(throttle, ANNA, HERE, times=FREE) == [0.0] * FREE


def test_a_long_time_forgets_failures() -> None:
    """Yesterday's mistakes do not count."""
    clock = FakeClock()
    throttle = Throttle(monotonic=clock.monotonic)
    tried(throttle, ANNA, times=FREE + 1)
    clock.advance(LONGEST["name"] + FORGOTTEN + 1)

    assert tried(throttle, ANNA, times=FREE) == [0.0] * FREE


def test_memory_is_bounded() -> None:
    """Who comes with very many names takes no more room."""
    throttle = Throttle(monotonic=FakeClock().monotonic)

    for number in range(MOST + 10):
        throttle.take(("name", str(number)))

    assert len(throttle._failures) == MOST
