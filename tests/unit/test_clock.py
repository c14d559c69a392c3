"""The database's clock as seen from here."""

import time
from datetime import UTC, datetime

from dispatcher.clock import Clock
from support.clock import START, FakeClock


def test_before_the_first_synchronisation_the_machines_clock_stands_in() -> None:
    """A fresh clock is of use at once."""
    assert abs(Clock().now() - time.time()) < 1


def test_after_synchronisation_the_clock_goes_on_from_the_databases() -> None:
    """Wherever the machine's own clock stands."""
    clock = Clock()

    clock.synchronise(1_000_000.0)
    first, second = clock.now(), clock.now()

    assert 1_000_000.0 <= first <= second < 1_000_001.0


def test_in_production_sql_takes_its_own_now() -> None:
    """Only tests override it."""
    assert Clock().override() is None


def test_the_fake_clock_moves_when_told_and_takes_sql_with_it() -> None:
    """Instants, durations and SQL agree."""
    clock = FakeClock()
    before = clock.monotonic()

    clock.advance(90)

    assert clock.now() == START + 90
    assert clock.monotonic() - before == 90
    assert clock.override() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
