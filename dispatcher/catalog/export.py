"""Gives the catalogue out as one AsyncAPI document: whole, or for some event types.

A document that is wanted whole goes out as it came in. Otherwise channels and operations are picked, with what they refer
to; where two documents use one key for different things, the later one's is renamed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.checking import VERSION
from dispatcher.catalog.documents import Document, pointer_to, references, walk
from dispatcher.catalog.reading import EventType, operations

TITLE, RELEASE = "Event types", "1.0.0"
"""Of a document that is put together from several."""

SECTIONS = ("servers", "channels", "operations", "components")

Picked = dict[str, Any]
"""Parts of a document by their pointers, like `/channels/visit.ended` and `/components/schemas/Visit`."""


def export(catalog: Catalog, names: Iterable[str] | None = None, *, payloads: bool = True) -> dict[str, Any]:
    """Return an AsyncAPI document of the named event types, of all without names.

    Without `payloads`, what is only inserted and never sent is left out: it is of no use to subscribers.
    """
    wanted = {one.name for one in catalog.event_types} if names is None else set(names)
    chosen = [one for one in catalog.event_types if one.name in wanted]
    if len(catalog.documents) == 1 and payloads and len(chosen) == len(catalog.event_types):
        return catalog.documents[0].tree
    merged = _Merged()
    for document in catalog.documents:
        own = [one for one in chosen if one.document is document]
        if own:
            merged.add(document, _picked(document, own, payloads=payloads))
    return merged.finished()


def _picked(document: Document, types: Sequence[EventType], *, payloads: bool) -> Picked:
    """Pick the channels of event types, what sends on them, and all that these refer to."""
    picked: Picked = {f"/servers/{key}": server for key, server in (document.tree.get("servers") or {}).items()}
    own = set()
    for one in types:
        picked[pointer_to("/channels", one.channel)] = _channel(one, payloads=payloads)
        own.add(one.place.pointer)
    for key, operation, channel, _ in operations(document):
        if channel.pointer in own and operation.value.get("action") == "send":
            picked[pointer_to("/operations", key)] = operation.value
    waiting = list(picked.values())
    while waiting:
        for _, reference in references(waiting.pop(0)):
            root = _root(document.find(reference).pointer)
            if root not in picked and root.startswith(("/components/", "/servers/")):
                picked[root] = document.find(f"#{root}").value
                waiting.append(picked[root])
    return picked


def _channel(event_type: EventType, *, payloads: bool) -> dict[str, Any]:
    """Return the channel, with its name spelt out, and without messages that are only inserted if these are not wanted."""
    channel = {**event_type.place.value, "address": event_type.name}
    if not payloads and any(message.sent for message in event_type.messages):
        sent = {message.id for message in event_type.messages if message.sent}
        channel["messages"] = {key: value for key, value in channel["messages"].items() if key in sent}
    return channel


def _root(pointer: str) -> str:
    """Return the part that a pointer leads into: `/channels/KEY`, `/components/schemas/KEY`."""
    parts = pointer.split("/")
    return "/".join(parts[: 4 if parts[1:2] == ["components"] else 3])


class _Merged:
    """One document that grows by parts of others."""

    def __init__(self) -> None:
        self._parts: Picked = {}
        self._sources: Picked = {}
        self._documents: list[Document] = []

    def add(self, document: Document, picked: Picked) -> None:
        """Add parts of a document."""
        names = {pointer: self._free(pointer, value) for pointer, value in picked.items()}

        def redirected(reference: str) -> Any:
            place = document.find(reference)
            root = _root(place.pointer)
            if root in names:
                return {"$ref": f"#{names[root]}{place.pointer[len(root) :]}"}
            return walk(place.value, redirected)  # in a channel that was not picked

        for pointer, value in picked.items():
            self._sources[names[pointer]] = value
            self._parts[names[pointer]] = walk(value, redirected)
        self._documents.append(document)

    def _free(self, pointer: str, value: Any) -> str:
        """Return a pointer that is not taken; what is the same, and refers to nothing, is there once."""
        taken, number, free = pointer, 1, pointer
        while free in self._sources:
            if self._sources[free] == value and not any(references(value)):
                return free
            number += 1
            free = f"{taken}-{number}"
        return free

    def finished(self) -> dict[str, Any]:
        """Put all together."""
        tree: dict[str, Any] = {"asyncapi": VERSION, "info": {"title": TITLE, "version": RELEASE}}
        if len(self._documents) == 1:
            tree["info"] = self._documents[0].tree["info"]
        content_types = {document.tree.get("defaultContentType") for document in self._documents}
        if len(content_types) == 1 and (content_type := content_types.pop()):
            tree["defaultContentType"] = content_type
        for section in SECTIONS:
            for pointer, value in self._parts.items():
                if pointer.startswith(f"/{section}/"):
                    _put(tree, pointer, value)
        return tree


def _put(tree: dict[str, Any], pointer: str, value: Any) -> None:
    *above, key = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
    for part in above:
        tree = tree.setdefault(part, {})
    tree[key] = value
