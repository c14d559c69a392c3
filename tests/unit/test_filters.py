"""Filters: conditions over an event, checked at the door, bounded, and never in the way of what they cannot judge."""

from time import perf_counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.filters import Decision, Failed, Held, Judge, Passed, check_filter
from dispatcher.model import Event, EventId


def event(payload: str = "{}") -> Event:
    """Make an event."""
    return Event(EventId(UUID(int=7)), "acme", "appointment.updated", payload, 1704067200.0, 0.0)


def decide(text: str, payload: str = "{}") -> Decision:
    """Apply a filter."""
    return Judge(event(payload)).decide(text)


APPOINTMENT = '{"amount": 1500, "changed_fields": ["date"], "practice": {"id": "p1"}, "big": 1e3, "no": null}'


@pytest.mark.parametrize(
    "text, passes",
    [
        ("payload.amount > 1000", True),
        ("payload.amount > 1000.5 && payload.amount < 2000", True),
        ("'date' in payload.changed_fields", True),
        ("payload.changed_fields.exists(field, field.startsWith('d'))", True),
        ("payload.practice.id == 'p2'", False),
        ("has(payload.practice) && !has(payload.absent)", True),
        ("event.type.matches('^appointment[.]') && event.tenant == 'acme'", True),
        ("event.occurred_at < timestamp('2024-01-01T00:00:00Z')", False),
        ("event.id == '00000000-0000-0000-0000-000000000007'", True),
        ("payload.no == null", True),
        ("size(payload.changed_fields) >= 2", False),
    ],
)
def test_conditions_over_event_and_payload(text: str, passes: bool) -> None:  # noqa: FBT001 - pytest passes names
    """What people write to say which events they want."""
    assert check_filter(text) == text

    assert decide(text, APPOINTMENT) == (Passed() if passes else Held())


@pytest.mark.parametrize(
    "text, says",
    [
        pytest.param("payload.amount >", "at column 17", id="syntax"),
        pytest.param("payload.a == 1 &&\n  payload.b ==", "at line 2, column 15", id="second line"),
        pytest.param("amount > 1", "undeclared reference to 'amount'", id="unknown name"),
        pytest.param("event.typ == 'x'", "undeclared reference to 'event.typ'", id="unknown of the event"),
        pytest.param("event.type", "is a string, and no condition", id="no condition"),
        pytest.param("1", "is a int, and no condition", id="a number"),
        pytest.param("event.type == 1", "no matching overload", id="types"),
        pytest.param("payload.a.foo() == 1", "undeclared reference to 'foo'", id="unknown function"),
        pytest.param("['x'].map(x, x + x).map(x, x + x) == []", "a filter has no `+`", id="what can grow"),
        pytest.param("x" * 2001, "at most 2000 characters", id="too long"),
        pytest.param("'\ud800' == 'a'", "surrogate", id="half a surrogate pair"),
        pytest.param("(" * 500 + "true" + ")" * 500, "is no expression", id="deep"),
    ],
)
def test_a_bad_filter_is_refused_with_its_place(text: str, says: str) -> None:
    """At the door, with what is wrong and where."""
    with pytest.raises(InvalidInput) as refusal:
        check_filter(text)

    assert refusal.value.field == "filter"
    assert says in str(refusal.value)


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_nothing_is_no_filter(text: str | None) -> None:
    """An empty filter lets all through, and is not kept."""
    assert check_filter(text) is None


@pytest.mark.parametrize(
    "text, payload, says",
    [
        pytest.param("payload.amount > 1", "{}", 'Key not found in map : "amount"', id="missing field"),
        pytest.param("payload.amount > 1", '{"amount": "12"}', "No matching overloads", id="another type"),
        pytest.param("payload.amount > 1", "[]", "failed", id="no object"),
        pytest.param("payload.amount", '{"amount": 3}', "neither true nor false, but a int", id="no condition"),
        pytest.param("payload.l[3] == 1", '{"l": []}', "Index error", id="index"),
        pytest.param("payload.s.matches(payload.s)", '{"s": "("}', "regular expression", id="pattern of the payload"),
        pytest.param("broken(", "{}", "no expression", id="written by hand"),
        pytest.param("payload.a == 1", "[" * 5000 + "]" * 5000, "cannot be parsed", id="too deep to parse"),
    ],
)
def test_what_cannot_be_judged_is_not_held_back(text: str, payload: str, says: str) -> None:
    """A filter that fails says why, and the event goes on to the subscriber."""
    decision = decide(text, payload)

    assert isinstance(decision, Failed)
    assert says in decision.why


@pytest.mark.parametrize(
    "payload, text",
    [
        ('{"id": 123456789012345678901234567890}', "payload.id > 1.0"),
        ('{"id": 1e400}', "payload.id > 1.0"),
        ('{"id": "\\ud800"}', "payload.id == '?'"),
        ('{"a": 18446744073709551615, "id": 1}', "payload.id == 1"),
    ],
)
def test_what_postgres_takes_for_json_can_be_judged(payload: str, text: str) -> None:
    """Large numbers and broken surrogate pairs are taken for the nearest thing that there is."""
    assert decide(text, payload) == Passed()


@pytest.mark.parametrize(
    "text",
    [
        "payload.l.all(a, payload.l.all(b, payload.l.all(c, a + 0 < 1 || true)))".replace("a + 0", "a"),
        "payload.l.exists(x, x == -1)",
        "payload.s.matches('(a+)+$')",
    ],
)
def test_no_filter_can_hold_up_a_worker(text: str) -> None:
    """Loops within loops over a long list, and patterns that make others backtrack, end at once."""
    payload = '{"l": [' + ",".join(["1"] * 20_000) + '], "s": "' + "a" * 50_000 + 'b"}'
    started = perf_counter()

    decision = decide(text, payload)

    assert isinstance(decision, Failed | Held)
    assert perf_counter() - started < 2.0


@given(text=st.text(max_size=40))
def test_whatever_is_stored_comes_to_a_decision(text: str) -> None:
    """No text in the column breaks fan-out."""
    assert isinstance(decide(text, APPOINTMENT), Passed | Held | Failed)
