"""Giving the catalogue out: as an AsyncAPI document, as a page."""

import re
from html.parser import HTMLParser

import orjson

from dispatcher.catalog.export import export
from dispatcher.catalog.page import fields, render
from support.catalogs import SMALL, catalog_of, example


def test_the_whole_goes_out_as_it_came() -> None:
    """With comments gone, and nothing else."""
    catalog = catalog_of(SMALL)

    assert catalog.documents[0].tree == export(catalog)


def test_a_part_holds_what_it_refers_to_and_no_more() -> None:
    """A document of one type is whole by itself."""
    part = export(example(), ["visit.ended"])

    assert list(part["channels"]) == ["visit.ended"]
    assert list(part["operations"]) == ["send-visit.ended"]
    assert set(part["components"]["schemas"]) == {"Body1", "Body2", "Visit1", "Visit2"}
    assert part["info"]["title"] == "VSee Clinic webhooks"
    assert list(catalog_of(orjson.dumps(part).decode()).names) == ["visit.ended"]


def test_subscribers_are_not_shown_what_is_only_inserted() -> None:
    """They get the bodies."""
    part = export(example(), ["visit.ended"], payloads=False)

    assert set(part["channels"]["visit.ended"]["messages"]) == {"2.0", "1.0"}
    assert catalog_of(orjson.dumps(part).decode()).get("visit.ended") is not None


def test_equal_keys_of_two_documents_do_not_mix() -> None:
    """Two systems call something else `Event`: each type keeps its own."""
    both = export(example(), ["appointment.confirmed", "appointment.created"])
    again = catalog_of(orjson.dumps(both).decode())

    assert set(both["components"]["schemas"]) == {"Event", "Event-2"}
    for event_type in example().event_types:
        if event_type.name in again.names:
            assert again.judge(event_type.name, orjson.dumps(event_type.example).decode()) == []


def test_no_type_is_an_empty_document() -> None:
    """It is valid, and says nothing."""
    assert not catalog_of(orjson.dumps(export(example(), [])).decode())


class Tags(HTMLParser):
    """Collects the tags of a page; raises for those that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        assert self.open.pop() == tag


def test_the_page_shows_every_type() -> None:
    """Each under its own name, so that links can lead there."""
    tags = Tags(render(example()))

    shown = [attributes["id"] for tag, attributes in tags.found if tag == "details"]

    assert sorted(example().names) == sorted(filter(None, shown))


def test_the_page_says_what_leads_to_an_event() -> None:
    """And can be searched for it, whatever the case."""
    page = render(example(), names=["patient.created"])

    assert "<code>createNotificationContact</code>" in page
    assert "createnotificationcontact" in page


def test_the_page_needs_nothing_else() -> None:
    """No request leaves the browser: no link to a file, no font, no image."""
    tags = Tags(render(example()))

    asking = {"src", "href", "srcset", "action", "data"}
    assert [
        tag for tag, attributes in tags.found if tag in {"link", "img", "iframe"} or attributes.keys() & asking
    ] == []
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", render(example()))


def test_the_page_escapes_what_documents_say() -> None:
    """A description is text, whatever stands in it."""
    catalog = catalog_of(SMALL.replace("title: Small", "title: '</title><script>alert(1)</script>'"))

    assert "<script>alert" not in render(catalog)


def test_fields_are_told_with_what_is_in_them() -> None:
    """Nested ones by their path; what all bodies share and what one adds are one list."""
    event_type = example().get("visit.note.signed_and_sent")
    assert event_type is not None
    assert event_type.bodies[0].schema is not None

    found = {field.path: field for field in fields(event_type.document, event_type.bodies[0].schema)}

    assert found["type"].kind == '"visit.note.signed_and_sent"'
    assert found["created"].kind == "integer"
    assert found["data.note"].required
    assert not found["data.invoice"].required
    assert found["data.note.status"].kind == '"new" | "signed" | "draft"'


def test_a_schema_within_itself_ends() -> None:
    """A tree of parts is shown some levels deep."""
    catalog = catalog_of(
        SMALL.replace(
            "minutes: {type: integer}", "minutes: {type: integer}\n        next: {$ref: '#/components/schemas/Visit'}"
        )
    )

    assert "next.next.next.id" in render(catalog)
