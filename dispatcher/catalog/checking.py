"""Finds what is wrong with AsyncAPI documents, so that none that is broken ever becomes the catalogue.

In this order, since each step stands on the one before: the version, the references, AsyncAPI's own JSON Schema, then what no
schema can say: that operations keep to their channel, that names are unique, that schemas compile and examples fit them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import jsonschema_rs
import orjson

from dispatcher.catalog import schemas
from dispatcher.catalog.documents import Document, references
from dispatcher.catalog.reading import ALIASES, EventType, Message, event_types, operations
from dispatcher.errors import CatalogFault

VERSION: Final = "3.0.0"

MOST_CHARACTERS: Final = 255
"""Of a name: the outbox takes no longer event type."""

_META_SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json")


def faults(documents: Sequence[Document]) -> list[CatalogFault]:
    """Return what is wrong with documents, one by one and together; nothing is right."""
    found = [fault for document in documents for fault in _of_document(document)]
    return found or list(_of_names([one for document in documents for one in event_types(document)]))


def _of_document(document: Document) -> list[CatalogFault]:
    steps = (_version, _references, _structure, _operations, _event_types)
    for step in steps:
        found = list(step(document))
        if found:
            return found
    return []


def _version(document: Document) -> Iterator[CatalogFault]:
    version = document.tree.get("asyncapi")
    if version != VERSION:
        found = f"It says asyncapi: {version}" if version else "There is no `asyncapi: 3.0.0`, so that it is none"
        yield document.fault("/asyncapi" if version else "", f"{found}; AsyncAPI {VERSION} is read.")


def _references(document: Document) -> Iterator[CatalogFault]:
    for pointer, reference in references(document.tree):
        try:
            document.resolve(document.find(reference))
        except LookupError as error:
            yield document.fault(pointer, str(error))


@cache
def _meta_schema() -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft7Validator(orjson.loads(_META_SCHEMA.read_bytes()), offline=True)


def _structure(document: Document) -> Iterator[CatalogFault]:
    for fault in schemas.errors(_meta_schema(), document.tree):
        yield document.fault(fault.pointer, fault.message)


def _operations(document: Document) -> Iterator[CatalogFault]:
    channels = {channel.pointer for _, channel in document.children(document.child(document.root, "channels"))}
    for _, operation, channel, messages in operations(document):
        if channel.pointer not in channels:
            yield document.fault(f"{operation.pointer}/channel", "It leads to no channel of the document.")
            continue
        own = {message.pointer for _, message in document.children(document.child(channel, "messages"))}
        for message in messages or ():
            if document.resolve(message).pointer not in own:
                yield document.fault(message.pointer, f"The message does not belong to the channel {channel.pointer}.")


def _event_types(document: Document) -> Iterator[CatalogFault]:
    compiler = schemas.Schemas(document)
    for event_type in event_types(document):
        yield from _name(event_type)
        if sum(message.payload_format is None for message in event_type.messages) > 1:
            yield document.fault(
                event_type.place.pointer,
                "Several of its messages describe the payload. Give those that describe bodies an x-payload-format.",
            )
        for message in event_type.messages:
            yield from _message(document, compiler, message)


def _name(event_type: EventType) -> Iterator[CatalogFault]:
    for name, key in [(event_type.name, "address"), *((alias, ALIASES) for alias in event_type.aliases)]:
        pointer = f"{event_type.place.pointer}/{key}"
        if not isinstance(name, str):
            yield event_type.document.fault(pointer, "A name of an event type is a text.")
        elif not 1 <= len(name) <= MOST_CHARACTERS or re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
            yield event_type.document.fault(
                pointer, f"A name has 1 to {MOST_CHARACTERS} characters, none of them a control character."
            )
        elif "*" in name:
            yield event_type.document.fault(pointer, "A name holds no `*`, which makes a subscription a pattern.")


def _message(document: Document, compiler: schemas.Schemas, message: Message) -> Iterator[CatalogFault]:
    if message.schema is None:
        return
    if message.schema_format is not None and message.schema_format not in schemas.KNOWN_FORMATS:
        yield document.fault(
            f"{message.place.pointer}/payload/schemaFormat",
            f"`{message.schema_format}` is no JSON Schema, which payloads need.",
        )
        return
    try:
        schema = compiler.compile(message.schema, schema_format=message.schema_format)
    except LookupError as error:
        yield document.fault(message.schema.pointer, str(error))
        return
    for example in message.examples:
        for fault in schema.faults(example.value):
            yield document.fault(
                example.pointer + fault.pointer, f"The example does not fit its schema. {fault.message}"
            )


def _of_names(types: Sequence[EventType]) -> Iterator[CatalogFault]:
    """Find names that mean two things, across all documents."""
    owners: dict[str, EventType] = {}
    for own_names in (True, False):  # names first, so that an alias is to blame for a clash
        for event_type in types:
            for name in (event_type.name,) if own_names else event_type.aliases:
                owner = owners.setdefault(name, event_type)
                if owner is not event_type or (not own_names and name == event_type.name):
                    pointer = event_type.place.pointer + ("" if own_names else f"/{ALIASES}")
                    yield event_type.document.fault(
                        pointer, f"The name `{name}` is taken by {owner.document.name}#{owner.place.pointer}."
                    )
