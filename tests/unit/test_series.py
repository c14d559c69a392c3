"""Counters in steps of time become plots."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.admin.series import MOST_STEPS, STEPS, percentile, series_of, span_of, totals_of
from dispatcher.store.figures import Step
from dispatcher.tally import CLASSES, LATENCIES

NOON = 1_767_268_800
"""Unix seconds; the start of an hour."""

DAY = 86400


def step(start: int, delivered: int) -> Step:
    """Make a step in which so many were delivered, and one in ten failed."""
    attempts = (delivered, 0, 0, delivered // 10, 0, 0)
    return Step(start, attempts, dead=0, cancelled=0, latencies=(0,) * 5 + (delivered,) + (0,) * 22)


@given(st.lists(st.floats(0.0005, 29.9), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_lies_in_the_class_of_the_true_one(seconds: list[float], part: float) -> None:
    """Counting by classes loses no more than a class's width."""
    counts = [0] * (len(LATENCIES) + 1)
    for one in seconds:
        counts[bisect_left(LATENCIES, one)] += 1
    rank = next(n for n in range(1, len(seconds) + 1) if n >= part * len(seconds))
    place = bisect_left(LATENCIES, sorted(seconds)[rank - 1])

    found = percentile(counts, part)

    assert found is not None
    low = LATENCIES[place - 1] if place else 0.0
    assert 1000 * low - 0.1 <= found <= 1000 * LATENCIES[place] + 0.1


@pytest.mark.parametrize(
    "counts, expected",
    [
        pytest.param([], None, id="nothing counted"),
        pytest.param([0] * 28, None, id="no attempts"),
        pytest.param([0] * 27 + [4], 30000.0, id="beyond all bounds"),
        pytest.param([0, 10] + [0] * 26, 1.5, id="in the middle of a class"),
    ],
)
def test_percentiles_at_the_edges(counts: list[int], expected: float | None) -> None:
    """The last bound stands for what is beyond."""
    assert percentile(counts, 0.5) == expected


@given(
    since=st.integers(NOON - 400 * DAY, NOON - 1),
    length=st.integers(1, 366 * DAY),
    finest=st.sampled_from([60, 900]),
)
def test_every_range_becomes_a_plot(since: int, length: int, finest: int) -> None:
    """Whole steps that hold the range as far as it has gone by, none that is wholly ahead, not too many."""
    span = span_of(since, since + length, now=NOON, finest=finest)

    assert span.step in STEPS
    assert span.step >= finest
    assert span.times[0] <= since < span.times[0] + span.step
    assert span.until >= min(since + length, NOON)
    assert span.times[-1] < max(NOON, since + 1)
    assert all(start % span.step == 0 for start in span.times)
    assert len(span.times) <= MOST_STEPS + 1 or span.step == STEPS[-1]
    assert span.resolution == 900 or since >= NOON - 2 * DAY


def test_the_running_step_is_measured_by_how_long_it_has_run() -> None:
    """A minute of which half is over shows the same rate; one that has just begun shows none."""
    steps = [step(NOON, 600), step(NOON + 60, 300)]

    half = series_of(steps, span_of(NOON, NOON + 120, now=NOON + 90, finest=60))
    begun = series_of(steps, span_of(NOON, NOON + 120, now=NOON + 65, finest=60))

    assert half.delivered == (10.0, 10.0)
    assert half.failed["5xx"] == (1.0, 1.0)
    assert begun.delivered == (10.0, None)


def test_totals_add_steps_up() -> None:
    """Percentiles are those of all attempts, not means of the steps'."""
    fast, slow = step(NOON, 900), Step(NOON + 60, (100, *(0,) * 5), 3, 2, latencies=(0,) * 20 + (100,) + (0,) * 7)

    totals = totals_of([fast, slow], whole=True)

    assert (totals.delivered, totals.failed["5xx"], totals.deaths, totals.cancelled) == (1000, 90, 3, 2)
    assert totals.attempts == 1090
    assert totals.p50 is not None
    assert totals.p99 is not None
    assert totals.p50 < 10
    assert totals.p99 > 2000
    assert totals_of([], whole=False).success is None
    assert list(totals.failed) == list(CLASSES[1:])
