"""Payload formats write around a payload and never touch it."""

import json
from datetime import UTC, datetime
from math import inf
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.model import Event, EventId
from dispatcher.payload import built_in_names, resolve


def body(name: str, of: Event) -> bytes:
    """Write an event by a built-in format."""
    return resolve(name).body(of)


AWKWARD = '{"b":1.10,"a":12345678901234567890123,"é":"\\u00e9"}'
"""Key order, number spelling and escapes that any parser would lose."""


def event(*, event_type: str = "appointment.created", payload: str = AWKWARD, occurred_at: float = 0.0) -> Event:
    """Make an event of which only what a format reads matters."""
    return Event(
        id=EventId(UUID(int=0)),
        tenant="acme",
        event_type=event_type,
        payload=payload,
        occurred_at=occurred_at,
        inserted_at=0.0,
    )


def test_standard_splices_the_payload_in() -> None:
    """The standard format is type, timestamp and the payload's own bytes, without any other byte."""
    written = body("standard", event(occurred_at=1_726_000_000.123456))

    assert written.decode() == (
        '{"type":"appointment.created","timestamp":"2024-09-10T20:26:40.123456Z","data":'
        '{"b":1.10,"a":12345678901234567890123,"é":"\\u00e9"}}'
    )


def test_raw_is_the_payload() -> None:
    """The raw format is the payload's own bytes, white space included."""
    written = body("raw", event(payload=' {"é" : 1.0 }\n'))

    assert written == ' {"é" : 1.0 }\n'.encode()


@given(event_type=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_type_is_written_as_json(event_type: str) -> None:
    """Every event type that Postgres can hold comes back from the body as it was."""
    written = orjson.loads(body("standard", event(event_type=event_type)))

    assert written["type"] == event_type


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=json_values, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
def test_any_payload_survives(value: object, ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001 - hypothesis passes names
    """However a payload is spelt, its bytes stand in the body unchanged, and the body is JSON."""
    payload = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="replace").decode()

    written = body("standard", event(payload=payload))

    assert written.endswith(b',"data":' + payload.encode() + b"}")
    assert json.loads(written)["data"] == json.loads(payload)


@given(instant=st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_timestamps_keep_microseconds(instant: datetime) -> None:
    """Postgres' microseconds survive the way through a float and are written as ISO 8601 in UTC."""
    written = orjson.loads(body("standard", event(occurred_at=instant.timestamp())))["timestamp"]

    assert written.endswith("Z")
    assert len(written) == len("2024-09-10T20:26:40.123456Z")
    assert datetime.fromisoformat(written) == instant


@pytest.mark.parametrize(
    "instant, written",
    [
        pytest.param(inf, "9999-12-31T23:59:59.000000Z", id="infinity"),
        pytest.param(-inf, "0001-01-01T00:00:00.000000Z", id="minus infinity"),
        pytest.param(1e13, "9999-12-31T23:59:59.000000Z", id="year 318857"),
    ],
)
def test_impossible_instants_do_not_stop_an_event(instant: float, written: str) -> None:
    """Instants that ISO 8601 cannot spell are written as the nearest one that it can."""
    assert orjson.loads(body("standard", event(occurred_at=instant)))["timestamp"] == written


@pytest.mark.parametrize("name", built_in_names())
def test_every_format_can_be_asked_for(name: str) -> None:
    """Each format that there is is found by its name."""
    assert resolve(name).name == name


def test_cloudevents_is_structured() -> None:
    """A CloudEvent holds the payload as it is, with its own content type."""
    found = resolve("cloudevents")

    written = found.body(event(occurred_at=1_726_000_000.5)).decode()

    assert found.content_type == "application/cloudevents+json"
    assert written == (
        '{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000000","source":"/acme","type":"appointment.created",'
        '"time":"2024-09-10T20:26:40.500000Z","datacontenttype":"application/json","data":' + AWKWARD + "}"
    )


@pytest.mark.parametrize(
    "name, hint",
    [
        pytest.param("standrad", "Did you mean `standard`?", id="near miss"),
        pytest.param("vsee/2", "Did you mean `vsee/2.0`?", id="no such version"),
        pytest.param(
            "", "There are: `standard`, `raw`, `cloudevents`, `decoda/1.0`, `vsee/1.0`, `vsee/2.0`.", id="empty"
        ),
    ],
)
def test_unknown_formats_are_refused(name: str, hint: str) -> None:
    """A format that does not exist is refused with what was probably meant."""
    with pytest.raises(InvalidInput) as refusal:
        resolve(name)

    assert refusal.value.field == "payload_format"
    assert str(refusal.value).endswith(hint)
