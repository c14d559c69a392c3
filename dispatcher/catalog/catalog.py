"""The catalogue: what others ask about event types."""

import json
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import orjson

from dispatcher.catalog import checking, documents
from dispatcher.catalog.documents import Document
from dispatcher.catalog.reading import EventType, event_types
from dispatcher.catalog.schemas import Fault, Schema, Schemas
from dispatcher.errors import CatalogError

MOST_NEAR: Final = 3
"""Names that a mistyped one may have meant; more are no help."""

MOST_UNKNOWN: Final = 1000
"""Names that are compared with the known ones: it takes a millisecond or more, and a producer may make up ever new ones."""

LIKENESS: Final = 0.75
"""Of 1: event types share many parts, so that less would find half of them."""

_EVERYTHING: Final = "*"


class Catalog:
    """All event types of some documents. Raises CatalogError if anything is wrong with these."""

    def __init__(self, of: Sequence[Document] = ()) -> None:
        """Check and read the documents: about 0.3 s for the first, and as much for each 200 event types."""
        if faults := checking.faults(of):
            raise CatalogError(faults)
        self.documents = tuple(of)
        types: list[EventType] = []
        self._schemas: dict[str, Schema] = {}
        for document in of:
            compiler = Schemas(document)
            for event_type in event_types(document):
                types.append(event_type)
                payload = event_type.payload
                if payload is not None and payload.schema is not None:
                    self._schemas[event_type.name] = compiler.compile(
                        payload.schema, schema_format=payload.schema_format
                    )
        self._types = {event_type.name: event_type for event_type in types}
        self._unknown: dict[str, str] = {}
        self._by_alias = {alias: event_type for event_type in types for alias in event_type.aliases}

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Catalog":
        """Read files; raises CatalogError."""
        return cls(documents.read(paths))

    def __bool__(self) -> bool:
        """Whether there is any event type: with none, there is nothing to hold anything against."""
        return bool(self._types)

    @property
    def event_types(self) -> tuple[EventType, ...]:
        """All of them, in the order of the documents."""
        return tuple(self._types.values())

    @property
    def names(self) -> Collection[str]:
        """The names of all of them, without aliases."""
        return self._types.keys()

    def get(self, name: str) -> EventType | None:
        """Look an event type up by its name, or by an alias."""
        return self._types.get(name) or self._by_alias.get(name)

    def near(self, name: str) -> list[str]:
        """Return names and aliases that a mistyped one may have meant, the likeliest first."""
        known = {known.lower(): known for known in (*self._by_alias, *self._types)}
        return [known[one] for one in get_close_matches(name.lower(), known, n=MOST_NEAR, cutoff=LIKENESS)]

    def near_patterns(self, pattern: str) -> list[str]:
        """Return patterns that match something and that a mistyped one may have meant."""
        parts = [name.split(".") for name in self._types]
        known = {".".join(one[:length]) + ".*" for one in parts for length in range(1, len(one))}
        return get_close_matches(pattern, sorted(known), n=MOST_NEAR, cutoff=LIKENESS)

    def matching(self, pattern: str) -> tuple[EventType, ...]:
        """Return the event types that a subscription matches: a name, an alias, `appointment.*`, or `*`."""
        if pattern == _EVERYTHING:
            return self.event_types
        if pattern.endswith(".*"):
            return tuple(one for name, one in self._types.items() if name.startswith(pattern[:-1]))
        found = self.get(pattern)
        return () if found is None else (found,)

    def canonical(self, pattern: str) -> str:
        """Return the name that an alias stands for; anything else as it is."""
        return self._by_alias[pattern].name if pattern in self._by_alias else pattern

    def judge(self, event_type: str, payload: str) -> list[Fault]:
        """Say what speaks against an event: its type is not known, or the payload does not fit; nothing: it is right."""
        if event_type not in self._types:
            return [Fault("", self.unknown(event_type))]
        schema = self._schemas.get(event_type)
        if schema is None:
            return []
        try:
            value = _parsed(payload)
        except ValueError:
            return [Fault("", "The payload is not JSON.")]
        return schema.faults(value)

    def unknown(self, name: str) -> str:
        """Say that there is no such event type, and what may have been meant."""
        if name not in self._unknown:
            if len(self._unknown) >= MOST_UNKNOWN:
                return f"The catalogue has no event type `{_shown(name)}`."
            self._unknown[name] = self._say_unknown(name)
        return self._unknown[name]

    def _say_unknown(self, name: str) -> str:
        if name in self._by_alias:
            return f"`{_shown(name)}` is an alias, for subscriptions. Events are of the type `{self.canonical(name)}`."
        near = self.near(name)
        meant = f" Did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
        return f"The catalogue has no event type `{_shown(name)}`.{meant}"


def _parsed(payload: str) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return json.loads(
            payload
        )  # takes what Postgres takes and orjson does not, like 1e400 and half a surrogate pair


def _shown(name: str) -> str:
    """Make a name that came from outside fit for a message: one short line."""
    return "".join(character if character.isprintable() else "?" for character in name[:100])
