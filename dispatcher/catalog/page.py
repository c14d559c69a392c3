"""Renders the catalogue as one HTML page that needs nothing else: no request, no library, readable on paper."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup, escape

from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.documents import Document, Place, pointer_to
from dispatcher.catalog.reading import EventType, Message

DEEPEST: Final = 8
"""Levels of a body that are shown; a schema that refers to itself has no end."""

TRIGGERS: Final = "x-triggered-by"

UNTAGGED: Final = "Other"

_BETWEEN_BACKTICKS: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body, as it is shown."""

    path: str
    """`visit.items[].id`."""
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A payload or body, as it is shown."""

    title: str
    summary: str
    deprecated: str | None
    fields: tuple[Field, ...]
    example: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event type, as it is shown."""

    event_type: EventType
    triggers: tuple[str, ...]
    """What leads to it, as its document says in `x-triggered-by`."""
    shapes: tuple[Shape, ...]
    words: str
    """What it is found by, in lower case."""


def render(catalog: Catalog, *, title: str | None = None, names: Iterable[str] | None = None) -> str:
    """Return the page: of the named event types, of all without names."""
    wanted = None if names is None else set(names)
    entries = [describe(one) for one in catalog.event_types if wanted is None or one.name in wanted]
    infos = [document.tree["info"] for document in catalog.documents]
    if title is None:
        title = infos[0]["title"] if len(infos) == 1 else "Event types"
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.event_type.tags[0] if entry.event_type.tags else UNTAGGED, []).append(entry)
    return _template().render(title=title, infos=infos, groups=groups, count=len(entries))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("dispatcher"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template("catalog/page.html")


def _code(text: str) -> Markup:
    """Set what stands between backticks as code; that much of CommonMark is what descriptions use."""
    return Markup(_BETWEEN_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


def describe(event_type: EventType) -> Entry:
    """Say how an event type is shown."""
    messages = event_type.bodies or event_type.messages
    payload = event_type.payload
    if payload is not None and payload not in messages:
        messages = (*messages, payload)
    shapes = tuple(_shape(event_type.document, message, alone=len(messages) == 1) for message in messages)
    given = event_type.place.value.get(TRIGGERS)
    triggers = tuple(map(str, given)) if isinstance(given, list) else ()
    found_by = [
        event_type.name,
        event_type.title,
        event_type.summary,
        event_type.description,
        *event_type.aliases,
        *event_type.tags,
        *triggers,
        *(field.path for shape in shapes for field in shape.fields),
    ]
    return Entry(event_type, triggers, shapes, " ".join(found_by).lower())


def _shape(document: Document, message: Message, *, alone: bool) -> Shape:
    example = message.examples[0].value if message.examples else None
    return Shape(
        title="" if alone else message.title,
        summary=message.summary,
        deprecated=message.deprecated,
        fields=() if message.schema is None else fields(document, message.schema),
        example=None if not message.examples else json.dumps(example, indent=2, ensure_ascii=False),
    )


def fields(document: Document, schema: Place) -> tuple[Field, ...]:
    """List the fields that a schema names, those within others behind these."""
    found: dict[str, Field] = {}
    for field in _fields(document, schema, "", DEEPEST):
        known = found.get(field.path)
        if known is not None:  # two parts of the schema speak of it: the later one is the more special
            field = replace(  # noqa: PLW2901 - what is shown is made of both
                field,
                kind=field.kind or known.kind,
                required=field.required or known.required,
                description=field.description or known.description,
            )
        found[field.path] = field
    return tuple(found.values())


def _fields(document: Document, schema: Place, prefix: str, depth: int) -> Iterator[Field]:
    schema = document.resolve(schema)
    if not isinstance(schema.value, dict) or not depth:
        return
    for index, part in enumerate(schema.value.get("allOf") or []):
        yield from _fields(document, Place(pointer_to(schema.pointer, "allOf", index), part), prefix, depth)
    required = schema.value.get("required") or []
    properties = schema.value.get("properties") or {}
    for name in [*properties, *(name for name in required if name not in properties)]:
        path = f"{prefix}{name}"
        inner = document.child(schema, "properties", name)
        value = inner.value if isinstance(inner.value, dict) else {}
        yield Field(path, _kind(value), name in required, " ".join(str(value.get("description") or "").split()))
        yield from _fields(document, inner, f"{path}.", depth - 1)
        yield from _fields(document, document.child(inner, "items"), f"{path}[].", depth - 1)


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a value is."""
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return " | ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
    types = schema.get("type") or []
    kind = " | ".join([types] if isinstance(types, str) else types)
    if schema.get("format"):
        kind = f"{kind} ({schema['format']})"
    if kind == "array" and isinstance(items := schema.get("items"), dict) and isinstance(items.get("type"), str):
        kind = f"array of {items['type']}"
    for alternatives in ("oneOf", "anyOf"):
        if not kind and alternatives in schema:
            kind = f"one of {len(schema[alternatives])}"
    return kind
