"""How requests are read: raw parts of JSON, and how much is too much."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.api.limits import MOST_BUCKETS, Buckets, whole_seconds
from dispatcher.api.raw import elements, members
from support.clock import FakeClock

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
WRITTEN = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    JSON,
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
)
BLANKS = st.text(" \t\r\n", max_size=3)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), WRITTEN, max_size=5), BLANKS)
def test_the_members_of_an_object_are_found_as_they_were_written(values: dict[str, str], blanks: str) -> None:
    """Whatever stands around and inside them."""
    inner = f"{blanks},{blanks}".join(f"{json.dumps(name)}{blanks}:{blanks}{text}" for name, text in values.items())

    assert members(f"{blanks}{{{blanks}{inner}{blanks}}}{blanks}") == values


@settings(max_examples=50)
@given(st.lists(WRITTEN, max_size=5), BLANKS)
def test_the_elements_of_an_array_are_found_as_they_were_written(texts: list[str], blanks: str) -> None:
    """In their order."""
    assert elements(f"{blanks}[{blanks}{f'{blanks},{blanks}'.join(texts)}{blanks}]{blanks}") == texts


@pytest.mark.parametrize("text", ["[]", "1", '"{}"', ""])
def test_what_is_no_object_has_no_members(text: str) -> None:
    """It is a mistake of ours to ask."""
    with pytest.raises(ValueError, match="There is no"):
        members(text)


def test_a_bucket_fills_at_its_rate() -> None:
    """Twice the rate at once; then one each half second at 2 a second."""
    clock = FakeClock()
    buckets = Buckets(2, monotonic=clock.monotonic)

    first = [buckets.take(b"key") for _ in range(5)]
    clock.advance(0.5)
    then = [buckets.take(b"key") for _ in range(2)]

    assert first == [0, 0, 0, 0, 0.5]
    assert then == [0, 0.5]


def test_a_slow_rate_lets_one_through_at_once() -> None:
    """One a minute is not none."""
    buckets = Buckets(1 / 60, monotonic=FakeClock().monotonic)

    assert (buckets.take(b"key"), whole_seconds(buckets.take(b"key"))) == (0, 60)


def test_without_a_rate_nothing_is_limited() -> None:
    """0 stands for any number."""
    buckets = Buckets(0, monotonic=FakeClock().monotonic)

    assert {buckets.take(b"key") for _ in range(100)} == {0.0}


def test_memory_is_bounded_however_many_keys_ask() -> None:
    """Those that asked longest ago are forgotten."""
    buckets = Buckets(1, monotonic=FakeClock().monotonic)

    for number in range(MOST_BUCKETS + 10):
        buckets.take(str(number).encode())

    assert len(buckets._buckets) == MOST_BUCKETS
