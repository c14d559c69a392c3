"""The catalogue: reading documents, finding faults, looking event types up, judging payloads."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.catalog import documents
from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.documents import parse
from dispatcher.errors import CatalogError
from support.catalogs import SMALL, catalog_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz019.eyn-~", max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def faults_of(*texts: str) -> list[tuple[str, str]]:
    """Where and what is wrong with documents; file and pointer as one."""
    with pytest.raises(CatalogError) as caught:
        catalog_of(*texts)
    return [(f"{fault.file}#{fault.pointer}", fault.message) for fault in caught.value.faults]


# reading


@pytest.mark.parametrize(
    "text, value",
    [
        pytest.param("no", "no", id="no-is-a-word"),
        pytest.param("2024-03-15", "2024-03-15", id="a-date-is-a-text"),
        pytest.param("0755", "0755", id="no-octal-numbers"),
        pytest.param("1_000", "1_000", id="no-underscores"),
        pytest.param("12:30", "12:30", id="no-sexagesimal-numbers"),
        pytest.param("1e3", 1000.0, id="a-float"),
        pytest.param("-5", -5, id="an-integer"),
        pytest.param("true", True, id="true"),
        pytest.param("", None, id="nothing-is-null"),
        pytest.param("'5'", "5", id="a-quoted-text"),
    ],
)
def test_yaml_has_the_scalars_of_json(text: str, value: Any) -> None:
    """The surprises of YAML 1.1 are none here."""
    assert {"a": value} == parse(f"a: {text}", "x.yaml").tree


def test_keys_are_texts() -> None:
    """A version or a status code as a key is what it looks like."""
    assert parse("2.0: 1\n404: 2\nnull: 3\n", "x.yaml").tree == {"2.0": 1, "404": 2, "null": 3}


@settings(max_examples=30)
@given(st.dictionaries(st.text("abcxyz019.eyn-~", max_size=4), JSON, max_size=4))
def test_what_is_written_reads_back(tree: dict[str, Any]) -> None:
    """As YAML and as JSON, whatever texts look like."""
    assert tree == parse(documents.write(tree), "x.yaml").tree == parse(json.dumps(tree), "x.json").tree


@pytest.mark.parametrize(
    "text, message",
    [
        pytest.param("a: [1", "neither YAML nor JSON (line", id="unclosed"),
        pytest.param("a: 1\na: 2\n", "the key `a` is there twice", id="twice"),
        pytest.param("[1, 2]: 3\n", "a key that is no text", id="list-as-key"),
        pytest.param("- a\n", "no AsyncAPI document", id="a-list"),
        pytest.param("", "no AsyncAPI document", id="nothing"),
        pytest.param("a: !!python/object/apply:os.getcwd []\n", "neither YAML nor JSON", id="code"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, message: str) -> None:
    """With the file's name."""
    with pytest.raises(CatalogError, match=r"^x\.yaml: ") as caught:
        parse(text, "x.yaml")

    assert message in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(CatalogError, match=r"missing\.yaml: It cannot be read: No such file"):
        Catalog.read([tmp_path / "missing.yaml"])


# faults


@pytest.mark.parametrize(
    "old, new, place, message",
    [
        pytest.param("asyncapi: 3.0.0", "asyncapi: 2.6.0", "/asyncapi", "AsyncAPI 3.0.0 is read", id="version"),
        pytest.param(
            "'#/components/schemas/Visit'",
            "'#/components/schemas/Visti'",
            "/channels/visit.ended/messages/ended/payload",
            "`#/components/schemas/Visti` leads nowhere: there is no `Visti`. Did you mean `Visit`?",
            id="broken-reference",
        ),
        pytest.param(
            "'#/components/schemas/Visit'",
            "https://example.com/visit.json",
            "/channels/visit.ended/messages/ended/payload",
            "Nothing is fetched",
            id="foreign-reference",
        ),
        pytest.param(
            "type: object",
            "$ref: '#/components/schemas/Visit'",
            "/channels/visit.ended/messages/ended/payload",
            "in a circle",
            id="circle",
        ),
        pytest.param(
            "ended: {action: send", "ended: {action: shout", "/operations/ended/action", '"shout"', id="action"
        ),
        pytest.param("version: 1.0.0", "versoin: 1.0.0", "/info", '"version" is a required', id="structure"),
        pytest.param(
            "channel: {$ref: '#/channels/visit.ended'}",
            "channel: {$ref: '#/channels/visit.ended'}, messages: [{$ref: '#/components/schemas/Visit'}]",
            "/operations/ended/messages/0",
            "does not belong to the channel",
            id="message-of-another-channel",
        ),
        pytest.param(
            "minutes: 15",
            "minutes: long",
            "/channels/visit.ended/messages/ended/examples/0/payload/minutes",
            'The example does not fit its schema. The value is not of type "integer".',
            id="wrong-example",
        ),
        pytest.param(
            "{type: string}", "{pattern: '('}", "/components/schemas/Visit/properties/id", "", id="bad-pattern"
        ),
        pytest.param("visit.over", "visit.created", "/channels/visit.ended/x-aliases", "is taken by", id="alias-taken"),
        pytest.param("visit.over", "visit.*", "/channels/visit.ended/x-aliases", "holds no `*`", id="alias-pattern"),
    ],
)
def test_faults_are_told_with_their_place(old: str, new: str, place: str, message: str) -> None:
    """File and pointer lead to what has to be mended."""
    assert old in SMALL

    ((found, said), *_) = faults_of(SMALL.replace(old, new))

    assert found.startswith(f"1.yaml#{place}")
    assert message in said


def test_all_faults_of_a_step_are_told_at_once() -> None:
    """So that nobody mends one after the other."""
    found = faults_of(SMALL.replace("schemas/Visit'", "schemas/No'").replace("channels/visit.created'", "channels/no'"))

    assert [place for place, _ in found] == [
        "1.yaml#/channels/visit.ended/messages/ended/payload",
        "1.yaml#/operations/created/channel",
    ]


def test_a_name_of_two_documents_is_told() -> None:
    """With both places."""
    assert (
        "2.yaml#/channels/visit.ended",
        "The name `visit.ended` is taken by 1.yaml#/channels/visit.ended.",
    ) in faults_of(SMALL, SMALL)


def test_an_examples_own_reference_is_data() -> None:
    """A payload may hold the key `$ref`."""
    assert catalog_of(SMALL.replace("minutes: 15", "$ref: nowhere"))


def test_a_field_may_be_called_example() -> None:
    """A reference below a property of that name is one."""
    text = SMALL.replace("id: {type: string}", "id: {type: string}\n        example: {$ref: '#/components/schemas/No'}")

    ((place, _),) = faults_of(text)

    assert place == "1.yaml#/components/schemas/Visit/properties/example"


# looking up


def test_a_channel_that_is_only_received_on_is_no_event_type() -> None:
    """The document may speak of more than webhooks."""
    assert list(catalog_of(SMALL.replace("created: {action: send", "created: {action: receive")).names) == [
        "visit.ended"
    ]


def test_a_channel_without_operations_is_an_event_type() -> None:
    """A short catalogue does without."""
    text = SMALL[: SMALL.index("operations:")] + SMALL[SMALL.index("components:") :]

    assert list(catalog_of(text).names) == ["visit.ended", "visit.created"]


@pytest.mark.parametrize(
    "pattern, names",
    [
        pytest.param("*", ["visit.ended", "visit.created"], id="all"),
        pytest.param("visit.*", ["visit.ended", "visit.created"], id="below"),
        pytest.param("visit.ended", ["visit.ended"], id="name"),
        pytest.param("visit.over", ["visit.ended"], id="alias"),
        pytest.param("visit", [], id="part"),
        pytest.param("vis.*", [], id="part-of-a-name"),
        pytest.param("visit.ended.*", [], id="too-deep"),
    ],
)
def test_patterns_match_as_subscriptions_do(pattern: str, names: list[str]) -> None:
    """A pattern is for what is below a full stop."""
    assert names == [event_type.name for event_type in catalog_of(SMALL).matching(pattern)]


def test_near_misses_are_named() -> None:
    """Whatever their case."""
    catalog = catalog_of(SMALL)

    assert catalog.unknown("VISIT.ENDET").endswith("Did you mean `visit.ended`?")
    assert catalog.near_patterns("vist.*") == ["visit.*"]


# judging


@pytest.mark.parametrize(
    "event_type, payload, faults",
    [
        pytest.param("visit.ended", '{"id":"v1","more":1}', [], id="fits"),
        pytest.param("visit.created", "[1e400]", [], id="no-schema-no-opinion"),
        pytest.param("visit.ended", '{"id":5}', ['/id: The value is not of type "string".'], id="wrong-type"),
        pytest.param("visit.ended", "{}", ['"id" is a required property.'], id="missing"),
        pytest.param("visit.ended", "[1e400]", ['The value is not of type "object".'], id="a-number-beyond-doubles"),
        pytest.param("visit.ended", '{"id":"\\ud800"}', [], id="half-a-surrogate-pair"),
        pytest.param("visit.ended", "{", ["The payload is not JSON."], id="no-json"),
        pytest.param(
            "visit.over",
            "{}",
            ["`visit.over` is an alias, for subscriptions. Events are of the type `visit.ended`."],
            id="alias",
        ),
        pytest.param(
            "visit.endet",
            "{}",
            ["The catalogue has no event type `visit.endet`. Did you mean `visit.ended`?"],
            id="unknown",
        ),
    ],
)
def test_judges_events(event_type: str, payload: str, faults: list[str]) -> None:
    """With the place of what is wrong."""
    assert faults == [str(fault) for fault in catalog_of(SMALL).judge(event_type, payload)]


def test_says_nothing_of_what_a_payload_holds() -> None:
    """It goes into logs; payloads are personal data."""
    said = catalog_of(SMALL).judge("visit.ended", '{"id": {"name": "Ada"}, "minutes": "Ada"}')

    assert len(said) == 2
    assert "Ada" not in str(said)


def test_another_draft_of_json_schema_may_be_named() -> None:
    """`prefixItems` is of 2020-12."""
    schema = "{schemaFormat: application/schema+json;version=draft-2020-12, schema: {prefixItems: [{type: string}]}}"
    catalog = catalog_of(SMALL.replace("{$ref: '#/components/schemas/Visit'}", schema))

    assert [fault.pointer for fault in catalog.judge("visit.ended", "[1]")] == ["/0"]


def test_a_schema_of_another_kind_is_refused() -> None:
    """Payloads are JSON."""
    schema = "{schemaFormat: application/vnd.apache.avro;version=1.9.0, schema: {type: string}}"

    ((place, message),) = faults_of(SMALL.replace("{$ref: '#/components/schemas/Visit'}", schema))

    assert place == "1.yaml#/channels/visit.ended/messages/ended/payload/schemaFormat"
    assert "is no JSON Schema" in message
