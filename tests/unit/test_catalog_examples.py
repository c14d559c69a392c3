"""The catalogues of the four systems are complete and right."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest

import dispatcher.catalog
from dispatcher.catalog.documents import Document, read, references
from dispatcher.catalog.export import export
from dispatcher.catalog.reading import operations
from dispatcher.catalog.schemas import Schemas
from support.catalogs import SYSTEMS, catalog_of, example, path_of

META_SCHEMA = Path(dispatcher.catalog.__path__[0]) / "asyncapi-3.0.0.json"

HERO = [
    "appointment.confirmed",
    "appointment.rescheduled",
    "appointment.cancelled",
    "prescription.issued",
    "patient.medical-record-updated",
    "patient.added-to-sequence",
    "write-to-record.succeeded",
    "write-to-record.failed",
    "form-submission.created",
]

DECODA = [
    "PATIENT_CREATED",
    "PATIENT_UPDATED",
    "APPOINTMENT_CANCELLED",
    "APPOINTMENT_RESCHEDULED",
    "APPOINTMENT_REQUEST",
    "PAYMENT_CREATED",
    "PAYMENT_FAILED",
    "PAYMENT_SUCCEEDED",
    "CHARGE_CREATED",
    "REFUND_CREATED",
    "REFUND_FAILED",
    "REFUND_SUCCEEDED",
    "ADJUSTMENT_CREATED",
    "ADJUSTMENT_FAILED",
    "ADJUSTMENT_SUCCEEDED",
    "INVOICE_SENT",
    "INVOICE_FAILED",
    "CALL_RECIEVED",
    "CALL_MADE",
    "MESSAGE_RECIEVED",
    "MESSAGE_SENT",
    "MESSAGE_DELIVERED",
    "MESSAGE_FAILED",
    "EMAIL_RECIEVED",
    "EMAIL_SENT",
    "FORM_SUBMITTED",
    "MAIL_SENT",
    "MAIL_DELIVERY_FAILED",
]

VSEE = [
    "user.created",
    "visit.created",
    "visit.updated",
    "visit.ended",
    "visit.note.signed_and_sent",
    "visit.invoice.processed",
]

HEALTHIE_EXTRAS = {
    "user_id", "patient_id", "care_plan_id", "user_group_id", "parent_id", "goal_id", "linked_client_id",
    "appointment_id", "form_answer_group_id", "custom_module_form_id", "requested_payment_id", "billing_item_id",
    "cms1500_id", "icd_code_id", "resource_organization_id", "host_user_id", "user_name", "user_email", "tag_id",
    "lab_order_id", "document_id", "ordering_physician_id", "folder_id", "destination_user_id", "source_user_id",
}  # fmt: skip


@cache
def meta_schema() -> jsonschema_rs.Validator:
    """AsyncAPI's own schema."""
    return jsonschema_rs.Draft7Validator(orjson.loads(META_SCHEMA.read_bytes()), offline=True)


def only_document(system: str) -> Document:
    """The document of an example."""
    (document,) = example(system).documents
    return document


@pytest.mark.parametrize("system", SYSTEMS)
def test_fits_the_schema_of_asyncapi(system: str) -> None:
    """AsyncAPI's own JSON Schema has nothing to say against a document."""
    assert list(meta_schema().iter_errors(only_document(system).tree)) == []


def test_the_schema_of_asyncapi_bites() -> None:
    """An operation that does something unheard of is found by it."""
    (document,) = read([path_of("hero")])
    tree = document.tree
    tree["operations"]["send-appointment.confirmed"]["action"] = "shout"

    assert not meta_schema().is_valid(tree)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_reference_resolves(system: str) -> None:
    """There are references, and each leads to something."""
    document = only_document(system)

    found = [document.resolve(document.find(reference)) for _, reference in references(document.tree)]

    assert len(found) > len(example(system).event_types)
    assert all(place.value is not None for place in found)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_message_of_an_operation_belongs_to_its_channel(system: str) -> None:
    """By its reference, into the channel; and every channel has one operation, which sends."""
    document = only_document(system)

    found = list(operations(document))

    assert {key for key, _ in document.children(document.child(document.root, "channels"))} == {
        channel.pointer.removeprefix("/channels/") for _, _, channel, _ in found
    }
    for _, operation, channel, messages in found:
        assert operation.value["action"] == "send"
        assert messages
        for message in messages:
            assert message.value["$ref"].startswith(f"#{channel.pointer}/messages/")


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_example_fits_its_schema(system: str) -> None:
    """Every message has a schema and an example, and these agree."""
    schemas = Schemas(only_document(system))
    for event_type in example(system).event_types:
        for message in event_type.messages:
            assert message.schema is not None
            assert message.examples, event_type.name
            for payload in message.examples:
                assert schemas.compile(message.schema).faults(payload.value) == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_event_type_can_be_inserted_and_sent(system: str) -> None:
    """It says what is inserted, with an example that passes, what is sent, and in a few words what it is."""
    for event_type in example(system).event_types:
        assert event_type.bodies
        assert example(system).judge(event_type.name, orjson.dumps(event_type.example).decode()) == []
        assert re.fullmatch(r"[A-Z].{5,80}\.", event_type.summary), event_type.name


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_body_names_its_event_type(system: str) -> None:
    """An example of one type does not pass for another."""
    types = example(system).event_types
    schemas = Schemas(types[0].document)
    for event_type, other in pairwise(types):
        for message in event_type.bodies:
            assert message.schema is not None
            assert schemas.compile(message.schema).faults(other.bodies[0].examples[0].value) != []


@pytest.mark.parametrize(
    "system, names",
    [
        pytest.param("hero", HERO, id="hero"),
        pytest.param("decoda", DECODA, id="decoda"),
        pytest.param("vsee", VSEE, id="vsee"),
    ],
)
def test_names_are_exact(system: str, names: list[str]) -> None:
    """All of them, byte for byte, in the order of the documentation."""
    assert names == [event_type.name for event_type in example(system).event_types]


def test_counts() -> None:
    """Eight and the ninth, 28, 6, 167."""
    assert [len(example(system).event_types) for system in SYSTEMS] == [9, 28, 6, 167]


def test_healthie_is_whole() -> None:
    """60 types of resources, every extra field, and on no event another one."""
    bodies: list[dict[str, Any]] = [one.example for one in example("healthie").event_types]

    standard = {"resource_id", "resource_id_type", "event_type", "changed_fields"}
    assert all(body.keys() >= standard for body in bodies)
    assert {key for body in bodies for key in body} - standard == HEALTHIE_EXTRAS
    assert len({body["resource_id_type"] for body in bodies}) == 60
    assert [body["event_type"] for body in bodies] == [one.name for one in example("healthie").event_types]


def test_healthie_says_what_leads_to_an_event() -> None:
    """The mutations of the documentation."""
    event_type = example("healthie").get("patient.created")

    assert event_type is not None
    assert event_type.place.value["x-triggered-by"] == ["createClient", "completeCheckout", "createNotificationContact"]


def test_misspelt_names_stay_and_have_aliases() -> None:
    """Who asks for the right spelling finds the published one."""
    found = {
        alias: example("decoda").canonical(alias) for alias in ("CALL_RECEIVED", "MESSAGE_RECEIVED", "EMAIL_RECEIVED")
    }

    assert found == {
        "CALL_RECEIVED": "CALL_RECIEVED",
        "MESSAGE_RECEIVED": "MESSAGE_RECIEVED",
        "EMAIL_RECEIVED": "EMAIL_RECIEVED",
    }


def test_vsee_has_two_versions_of_every_body() -> None:
    """They differ as documented: code, times, status, who; note and invoice are nested in 2.0 alone."""
    for event_type in example("vsee").event_types:
        bodies = {body.payload_format: body.examples[0].value for body in event_type.bodies}
        one, two = bodies["vsee/1.0"], bodies["vsee/2.0"]
        assert (one["version"], two["version"]) == ("1.0", "2.0")
        assert "account_code" in one
        assert "clinic_code" in two
        if event_type.name.startswith("visit."):
            assert (one["data"]["start"], two["data"]["start"]) == ("1546950546", 1546950546)
            assert one["data"]["status"] == "40"
            assert two["data"]["status"] in {"cancelled", "completed"}
            assert one["data"]["completed_by"] == two["data"]["status_updated_by"] == "60610"
            assert not {"note", "invoice"} & one["data"].keys()
            assert ("note" in two["data"]) == (event_type.name == "visit.note.signed_and_sent")
            assert ("invoice" in two["data"]) == (event_type.name == "visit.invoice.processed")
        assert {body.payload_format for body in event_type.bodies if body.deprecated} == {"vsee/1.0"}


def test_all_four_are_one_catalogue() -> None:
    """No name means two things, and what is put together from them passes every check again."""
    together = example()
    again = catalog_of(orjson.dumps(export(together)).decode())

    assert sorted(together.names) == sorted(again.names)
    assert len(again.names) == 9 + 28 + 6 + 167


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_guide_inserts_what_the_catalogue_takes(system: str) -> None:
    """The SQL of README passes the judgement of the catalogue beside it."""
    guide = path_of(system).with_name("README.md").read_text(encoding="utf-8")
    found = re.search(r"^values \('\w+', '([^']+)',\s+'([^']+)'\);$", guide, re.MULTILINE)

    assert found is not None
    assert example(system).judge(found[1], found[2]) == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_guide_names_event_types_that_exist(system: str) -> None:
    """Its subscriptions match something."""
    guide = path_of(system).with_name("README.md").read_text(encoding="utf-8")

    for given in re.findall(r"--subscriptions '?([^'\s]+)", guide):
        for pattern in given.split(","):
            assert example(system).matching(pattern), pattern
