"""Payload formats as data: read, checked, compiled, and written by."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.formats.definition import Definition, check, read, written
from dispatcher.formats.parts import FormatFailed, Parts
from dispatcher.formats.shipped import shipped
from dispatcher.formats.writing import compile_format, compiled
from dispatcher.model import Event, EventId
from dispatcher.payload import is_built_in, resolve

VISIT = {
    "id": "28540",
    "member_id": "60610",
    "provider_id": None,
    "start": 1546950546,
    "end": 1546951446,
    "actual_start": 1546950546,
    "actual_end": None,
    "status": "cancelled",
    "status_updated_by": "60610",
}

EVENT = Event(
    id=EventId(UUID("5c34979c-30dc-496c-8cd3-6eb9925862c1")),
    tenant="acme",
    event_type="visit.ended",
    payload='{ "a": 1.10, "b": {"c": [1, 2], "é": "\\u00e9"}, "n": null }',
    occurred_at=1546950556.25,
    inserted_at=0.0,
)


def definition(*fields: dict[str, Any], **more: Any) -> Definition:
    """Make a definition of some fields."""
    return check({"name": "mine", "version": "1", "fields": list(fields)} | more, source="mine.toml")


def body(*fields: dict[str, Any], event: Event = EVENT) -> str:
    """Write an event by some fields."""
    return compile_format(definition(*fields)).body(event).decode()


@pytest.mark.parametrize(
    "field, value",
    [
        pytest.param({"event": "id"}, '"5c34979c-30dc-496c-8cd3-6eb9925862c1"', id="id"),
        pytest.param({"event": "type"}, '"visit.ended"', id="type"),
        pytest.param({"event": "tenant"}, '"acme"', id="tenant"),
        pytest.param({"event": "occurred_at"}, '"2019-01-08T12:29:16.250000Z"', id="instant"),
        pytest.param(
            {"event": "occurred_at", "as": "iso_milliseconds"}, '"2019-01-08T12:29:16.250Z"', id="milliseconds"
        ),
        pytest.param({"event": "occurred_at", "as": "iso_seconds"}, '"2019-01-08T12:29:16Z"', id="seconds"),
        pytest.param({"event": "occurred_at", "as": "unix"}, "1546950556", id="unix"),
        pytest.param({"event": "occurred_at", "as": "unix_milliseconds"}, "1546950556250", id="unix milliseconds"),
        pytest.param({"event": "occurred_at", "as": "unix_text"}, '"1546950556"', id="unix text"),
        pytest.param({"constant": None}, "null", id="null"),
        pytest.param({"constant": {"b": 1, "a": [True]}}, '{"b":1,"a":[true]}', id="constant"),
        pytest.param({"text": "evt_{id}@{tenant}"}, '"evt_5c34979c-30dc-496c-8cd3-6eb9925862c1@acme"', id="text"),
        pytest.param({"payload": True}, EVENT.payload, id="all of the payload"),
        pytest.param({"payload": "a"}, "1.10", id="a number as it was spelt"),
        pytest.param({"payload": "b"}, '{"c": [1, 2], "é": "\\u00e9"}', id="an object as it was spelt"),
        pytest.param({"payload": "b.é"}, '"\\u00e9"', id="a part of a part"),
        pytest.param({"payload": "n"}, "null", id="null in the payload"),
        pytest.param({"cel": "payload.a * 2.0"}, "2.2", id="computed"),
        pytest.param(
            {"cel": "event.type + ':' + string(payload.b.c[1])"}, '"visit.ended:2"', id="of event and payload"
        ),
        pytest.param({"cel": "{'x': payload.b.c.map(i, i + 1)}"}, '{"x":[2,3]}', id="a computed object"),
        pytest.param({"cel": "event.occurred_at"}, '"2019-01-08T12:29:16.250000Z"', id="a computed instant"),
        pytest.param({"fields": [{"name": "in", "constant": 1}]}, '{"in":1}', id="an object within"),
    ],
)
def test_each_kind_of_field(field: dict[str, Any], value: str) -> None:
    """What a field says is what stands in the body, to the byte."""
    assert body({"name": "f"} | field) == f'{{"f":{value}}}'


def test_fields_keep_their_order_and_their_types() -> None:
    """The body is compact and in the definition's order; a field for other event types is left out."""
    fields = (
        {"name": "z", "constant": 1},
        {"name": "data", "types": ["user.*"], "constant": "user"},
        {"name": "data", "types": ["visit.ended", "visit.created"], "constant": "visit"},
        {"name": "a", "types": ["*"], "constant": 2},
        {"name": "gone", "payload": "missing", "optional": True},
    )

    assert body(*fields) == '{"z":1,"data":"visit","a":2}'
    assert body(*fields, event=replace(EVENT, event_type="user.created")) == '{"z":1,"data":"user","a":2}'
    assert body(*fields, event=replace(EVENT, event_type="other")) == '{"z":1,"a":2}'


def test_of_fields_of_one_name_the_first_for_an_event_type_is_written() -> None:
    """So that the last one can be for all others; never two of them."""
    fields = (
        {"name": "data", "types": ["visit.*"], "payload": "missing", "optional": True},
        {"name": "data", "types": ["user.*"], "constant": "user"},
        {"name": "data", "types": ["*"], "payload": True},
    )

    assert body(*fields) == "{}"
    assert body(*fields, event=replace(EVENT, event_type="user.created")) == '{"data":"user"}'
    assert body(*fields, event=replace(EVENT, event_type="other")) == f'{{"data":{EVENT.payload}}}'


@pytest.mark.parametrize("name", ["vsee/1.0", "vsee/2.0"])
@pytest.mark.parametrize("event_type", ["test.created", "dispatcher.endpoint.failing", "billing.done"])
def test_vsee_leaves_nothing_out_of_events_that_it_does_not_know(name: str, event_type: str) -> None:
    """The whole payload is their data."""
    written = json.loads(resolve(name).body(replace(EVENT, event_type=event_type)))

    assert written["data"] == json.loads(EVENT.payload)


@pytest.mark.parametrize(
    "field, says",
    [
        pytest.param({"payload": "b.x"}, "fields[1] (`f`): the payload has no `b.x`", id="missing part"),
        pytest.param({"payload": "a.x"}, "fields[1] (`f`): the payload has no `a.x`", id="part of a number"),
        pytest.param({"cel": "payload.x"}, 'fields[1] (`f`): `payload.x` failed: Key not found in map : "x"', id="key"),
        pytest.param({"cel": "payload.a / 0"}, "fields[1] (`f`)", id="no such operation"),
        pytest.param({"fields": [{"name": "g", "payload": "x"}]}, "fields[1] (`f`).fields[0] (`g`)", id="within"),
    ],
)
def test_what_cannot_be_written_names_the_field(field: dict[str, Any], says: str) -> None:
    """At run time the failure says which format, which field, and what is missing."""
    with pytest.raises(FormatFailed) as failure:
        body({"name": "ok", "constant": 1}, {"name": "f"} | field)

    assert str(failure.value).startswith("The payload format mine/1 cannot write this event: ")
    assert says in str(failure.value)


@pytest.mark.parametrize(
    "field, place",
    [
        pytest.param({}, "fields[0]", id="no value"),
        pytest.param({"event": "id", "constant": 1}, "fields[0]", id="two values"),
        pytest.param({"event": "idd"}, "fields[0].event", id="unknown of the event"),
        pytest.param({"event": "id", "as": "iso"}, "fields[0]", id="form of a text"),
        pytest.param({"event": "occurred_at", "as": "rfc822"}, "fields[0].as", id="unknown form"),
        pytest.param({"text": "{idd}"}, "fields[0].text", id="unknown in a text"),
        pytest.param({"payload": False}, "fields[0]", id="no payload"),
        pytest.param({"payload": "a..b"}, "fields[0].payload", id="no path"),
        pytest.param({"payload": True, "optional": True}, "fields[0]", id="optional payload"),
        pytest.param({"cel": "payload."}, "fields[0].cel", id="syntax"),
        pytest.param({"cel": "event.idd"}, "fields[0].cel", id="unknown name"),
        pytest.param({"cel": "1 + 'a'"}, "fields[0].cel", id="types"),
        pytest.param({"typo": 1}, "fields[0].typo", id="unknown key"),
        pytest.param({"fields": [{"name": "g", "event": "x"}]}, "fields[0].fields[0].event", id="within"),
        pytest.param({"types": [], "constant": 1}, "fields[0].types", id="for no type"),
    ],
)
def test_a_bad_field_is_refused_with_its_place(field: dict[str, Any], place: str) -> None:
    """A definition is checked whole before anybody can be pinned to it."""
    with pytest.raises(InvalidInput) as refusal:
        definition({"name": "f"} | field)

    assert refusal.value.field == "payload_format"
    assert f"{place}: " in str(refusal.value)
    assert str(refusal.value).startswith("mine.toml is no payload format.")


@pytest.mark.parametrize(
    "change, place",
    [
        pytest.param({"name": "Mine"}, "name", id="name"),
        pytest.param({"version": "1/2"}, "version", id="version"),
        pytest.param({"content_type": "text/html"}, "content_type", id="content type"),
        pytest.param({"fields": []}, "fields", id="no fields"),
        pytest.param({"deprecated": "soon"}, "deprecated", id="date"),
        pytest.param(
            {"fields": [{"name": "a", "constant": 1}, {"name": "a", "constant": 2}]}, "the whole", id="field twice"
        ),
        pytest.param(
            {"fields": [{"name": "a", "constant": 1}, {"name": "a", "constant": 2, "types": ["b"]}]},
            "the whole",
            id="field that is never written",
        ),
    ],
)
def test_a_bad_head_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    """Name, version and the like are checked, too."""
    with pytest.raises(InvalidInput, match=f"{place}: "):
        check({"name": "a", "version": "1", "fields": [{"name": "f", "constant": 1}]} | change, source="a.json")


@pytest.mark.parametrize("source, text", [("a.toml", "name ="), ("a.json", "{"), ("a.json", "[" * 100_000)])
def test_what_is_no_document_is_refused_by_file(source: str, text: str) -> None:
    """Files that are neither TOML nor JSON, or too large."""
    with pytest.raises(InvalidInput, match=source):
        read(text, source=source)


def test_objects_within_objects_have_an_end() -> None:
    """A definition cannot be nested without bound."""
    inner: dict[str, Any] = {"name": "f", "constant": 1}
    for _ in range(20):
        inner = {"name": "f", "fields": [inner]}

    with pytest.raises(InvalidInput, match="nested deeper"):
        definition(inner)


def test_what_is_stored_writes_the_same_bodies() -> None:
    """A definition survives being kept as JSON, in its order."""
    for name, one in shipped().items():
        event = replace(EVENT, payload=orjson.dumps({"visit": VISIT, "status_code": "40"}).decode())

        assert compiled(written(one)).body(event) == resolve(name).body(event)
        assert is_built_in(name)


def test_vsee_writes_one_event_in_two_versions() -> None:
    """1.0 and 2.0 differ in a name, in times, in the status and in who updated it."""
    event = replace(EVENT, payload=json.dumps({"visit": VISIT, "status_code": "40"}, indent=2))

    first, second = (json.loads(resolve(name).body(event)) for name in ("vsee/1.0", "vsee/2.0"))

    assert first == {
        "version": "1.0",
        "id": "5c34979c-30dc-496c-8cd3-6eb9925862c1",
        "type": "visit.ended",
        "created": 1546950556,
        "account_code": "acme",
        "data": {
            "id": "28540", "member_id": "60610", "provider_id": None, "start": "1546950546", "end": "1546951446",
            "actual_start": "1546950546", "actual_end": None, "status": "40", "completed_by": "60610",
        },
    }  # fmt: skip
    assert second == {
        "version": "2.0",
        "id": "5c34979c-30dc-496c-8cd3-6eb9925862c1",
        "type": "visit.ended",
        "created": 1546950556,
        "clinic_code": "acme",
        "data": VISIT,
    }


def test_an_independent_reader_takes_the_cloudevent() -> None:
    """The `cloudevents` library reads what is sent."""
    found = resolve("cloudevents")
    message = HTTPMessage(headers={"content-type": found.content_type}, body=found.body(EVENT))

    read_back = from_http_event(message)

    assert (read_back.get_id(), read_back.get_type()) == (str(EVENT.id), "visit.ended")
    assert read_back.get_source() == "/acme"
    assert str(read_back.get_time()) == "2019-01-08 12:29:16.250000+00:00"
    assert read_back.get_data() == json.loads(EVENT.payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    value=st.dictionaries(st.text(), json_values, max_size=5),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_every_part_is_found_as_it_was_written(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001 - hypothesis passes names
    """Whatever the payload and its spelling: each member's slice parses to that member, and others are not there."""
    parts = Parts(json.dumps(value, ensure_ascii=ascii_only, indent=indent))

    for name, member in value.items():
        assert json.loads(parts.at((name,)) or "") == member
        if isinstance(member, dict):
            for inner, part in member.items():
                assert json.loads(parts.at((name, inner)) or "") == part
        else:
            assert parts.at((name, "x")) is None
    assert parts.at(("\0 not there",)) is None


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', "{a:1}", '{"b":[' + "[" * 100_000])
def test_a_broken_payload_is_a_failure_and_no_fault(text: str) -> None:
    """Postgres lets none of these in; were one there, its delivery would say so and others go on."""
    try:
        assert Parts(text).at(("a",)) is None
    except FormatFailed as failure:
        assert "cannot be parsed" in str(failure)  # noqa: PT017 - both are right
