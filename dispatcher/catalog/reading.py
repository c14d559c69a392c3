"""Finds the event types in an AsyncAPI document.

A channel on which an operation sends is an event type; its address is the name. Its messages are of two kinds. Without
`x-payload-format`, or with `raw`, a message describes the payload as it is inserted into the outbox, and is what payloads are
validated against. With the name of another payload format it describes the body that this format makes; so one event type
can have several bodies, of versions for one.

Extensions: `x-aliases`, other names to subscribe by, and `x-deprecated`, true or a sentence, of a channel; `x-deprecated` and
`x-payload-format` of a message.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dispatcher.catalog.documents import Document, Place

PAYLOAD_FORMAT = "x-payload-format"
ALIASES = "x-aliases"
DEPRECATED = "x-deprecated"

RAW = "raw"
"""The payload format that sends the payload as it is, so that body and payload have one description."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One description of a payload or a body."""

    id: str
    """Its key in the channel."""
    place: Place
    title: str
    summary: str
    payload_format: str | None
    """That makes this body; null: it is the payload as inserted."""
    deprecated: str | None
    """Why not to use it any more; null: it is not deprecated."""
    sent: bool
    """An operation sends it: it is for subscribers."""
    schema: Place | None
    """Behind references, and taken out of a multi-format schema."""
    schema_format: str | None
    """Of a multi-format schema."""
    examples: tuple[Place, ...]
    """Payloads, each with its place."""

    @property
    def is_payload(self) -> bool:
        """It describes what is inserted into the outbox."""
        return self.payload_format in (None, RAW)


@dataclass(frozen=True, slots=True, eq=False)
class EventType:
    """A kind of event, as its document describes it."""

    name: str
    document: Document
    place: Place
    """Of the channel."""
    channel: str
    """Its key."""
    title: str
    summary: str
    description: str
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    deprecated: str | None
    messages: tuple[Message, ...]

    @property
    def payload(self) -> Message | None:
        """What is inserted into the outbox, if that is described."""
        described = [message for message in self.messages if message.is_payload]
        return min(described, key=lambda message: message.payload_format is not None, default=None)

    @property
    def bodies(self) -> tuple[Message, ...]:
        """What subscribers get, as far as it is described."""
        return tuple(message for message in self.messages if message.sent)

    @property
    def example(self) -> Any:
        """A payload to insert; None if the document has none."""
        payload = self.payload
        return payload.examples[0].value if payload is not None and payload.examples else None


def event_types(document: Document) -> Iterator[EventType]:
    """Give the event types of a document in its order; raises LookupError for a broken reference."""
    sent = _sent(document)
    for key, channel in document.children(document.child(document.root, "channels")):
        if channel.pointer in sent or not _is_used(document, channel.pointer):  # else it is only received on
            yield _event_type(document, key, channel, sent.get(channel.pointer))


def operations(document: Document) -> Iterator[tuple[str, Place, Place, tuple[Place, ...] | None]]:
    """Give key, place, channel and messages (none given: null) of each operation."""
    for key, operation in document.children(document.child(document.root, "operations")):
        channel = document.child(operation, "channel")
        listed = operation.value.get("messages") if isinstance(operation.value, dict) else None
        places = None
        if isinstance(listed, list):
            places = tuple(Place(f"{operation.pointer}/messages/{index}", item) for index, item in enumerate(listed))
        yield key, operation, channel, places


def _sent(document: Document) -> dict[str, set[str] | None]:
    """Return, by channel, which of its messages are sent: pointers behind references, or null for all."""
    found: dict[str, set[str] | None] = {}
    for _, operation, channel, places in operations(document):
        if operation.value.get("action") != "send":
            continue
        if places is None:
            found[channel.pointer] = None
        else:
            one = found.setdefault(channel.pointer, set())
            if one is not None:
                one.update(document.resolve(place).pointer for place in places)
    return found


def _is_used(document: Document, channel: str) -> bool:
    return any(place.pointer == channel for _, _, place, _ in operations(document))


def _event_type(document: Document, key: str, channel: Place, sent: set[str] | None) -> EventType:
    value = channel.value if isinstance(channel.value, dict) else {}
    name = value.get("address") or key
    messages = document.children(document.child(channel, "messages"))
    tags = [document.resolve(Place(channel.pointer, tag)).value for tag in value.get("tags") or []]
    return EventType(
        name=name,
        document=document,
        place=channel,
        channel=key,
        title=value.get("title") or name,
        summary=_line(value.get("summary")),
        description=(value.get("description") or "").strip(),
        tags=tuple(tag["name"] for tag in tags if isinstance(tag, dict) and "name" in tag),
        aliases=_aliases(value.get(ALIASES)),
        deprecated=_deprecated(value.get(DEPRECATED)),
        messages=tuple(
            _message(document, message_key, message, sent=sent is None or message.pointer in sent)
            for message_key, message in messages
        ),
    )


def _message(document: Document, key: str, message: Place, *, sent: bool) -> Message:
    value = message.value if isinstance(message.value, dict) else {}
    schema = document.child(message, "payload") if "payload" in value else None
    schema_format = None
    if schema is not None and isinstance(schema.value, dict) and "schemaFormat" in schema.value:
        schema_format = schema.value["schemaFormat"]
        schema = document.child(schema, "schema")
    examples = [
        Place(f"{message.pointer}/examples/{index}/payload", example["payload"])
        for index, example in enumerate(value.get("examples") or [])
        if isinstance(example, dict) and "payload" in example
    ]
    return Message(
        id=key,
        place=message,
        title=value.get("title") or value.get("name") or key,
        summary=_line(value.get("summary")),
        payload_format=value.get(PAYLOAD_FORMAT),
        deprecated=_deprecated(value.get(DEPRECATED)),
        sent=sent,
        schema=schema,
        schema_format=schema_format,
        examples=tuple(examples),
    )


def _aliases(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _deprecated(value: Any) -> str | None:
    if not value:
        return None
    return value if isinstance(value, str) else "It is deprecated."


def _line(value: Any) -> str:
    return " ".join(str(value or "").split())
