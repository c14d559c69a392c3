"""Payload formats: an event becomes the bytes of the body.

Three are code, `standard`, `raw` and `cloudevents`; they never parse a payload. What the producer inserted goes out as
it came in, with its key order, its spelling of numbers and its escapes; a format only writes around it. All others are
definitions (`dispatcher.formats`): some come with the service, the rest operators put into the database, which is where
every worker sees the same ones, at once and without a restart. A format that endpoints use is never changed: a new
version is put beside it, and each endpoint stays on the one it is pinned to until somebody moves it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote

import orjson

from dispatcher.errors import InvalidInput
from dispatcher.formats.definition import FIELD
from dispatcher.formats.parts import FormatFailed
from dispatcher.formats.references import iso
from dispatcher.formats.shipped import shipped
from dispatcher.formats.writing import compile_format, compiled
from dispatcher.model import Event

CONTENT_TYPE = "application/json"
"""Of every format that says nothing else."""

CLOUDEVENTS_TYPE = "application/cloudevents+json"
"""CloudEvents 1.0.2, JSON event format, section 3: structured content mode."""


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """How an event becomes a body."""

    name: str
    content_type: str
    body: Callable[[Event], bytes]
    """Raises FormatFailed for an event that the format cannot write."""


def resolve(name: str, definition: str | None = None) -> PayloadFormat:
    """Return the format of a name; `definition` is the stored one, JSON, if there is one. Raises InvalidInput."""
    if name in FORMATS:
        return FORMATS[name]
    if (known := _shipped(name)) is not None:
        return known
    if definition is not None:
        found = compiled(definition)
        return PayloadFormat(name, found.content_type, found.body)
    raise unknown(name)


@lru_cache(maxsize=64)
def _shipped(name: str) -> PayloadFormat | None:
    definition = shipped().get(name) if "/" in name else None
    if definition is None:
        return None
    found = compile_format(definition)
    return PayloadFormat(name, found.content_type, found.body)


def is_built_in(name: str) -> bool:
    """Whether a format comes with the service, so that nobody can put another one of that name."""
    return name in FORMATS or ("/" in name and name in shipped())


def built_in_names() -> tuple[str, ...]:
    """Return the names of all formats that come with the service."""
    return (*FORMATS, *shipped())


def unknown(name: str, known: tuple[str, ...] = ()) -> InvalidInput:
    """Say that there is no such format, and what may have been meant; `known` are those of the database."""
    names = (*built_in_names(), *known)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(f'`{one}`' for one in names)}."
    return InvalidInput(f"There is no payload format `{name[:100]}`. {hint}", field=FIELD)


def _standard(event: Event) -> bytes:
    """Write Standard Webhooks' `{"type", "timestamp", "data"}`; the timestamp is the event's, not the attempt's."""
    return f'{_head(event.event_type)}{iso(event.occurred_at)}","data":{event.payload}}}'.encode()


def _raw(event: Event) -> bytes:
    """Write the payload's own bytes."""
    return event.payload.encode()


def _cloudevents(event: Event) -> bytes:
    """Write a CloudEvent in structured mode; its source is the tenant, as a URI reference."""
    source = orjson.dumps("/" + quote(event.tenant, safe="")).decode()
    return (
        f'{{"specversion":"1.0","id":"{event.id}","source":{source},"type":{_text(event.event_type)},'
        f'"time":"{iso(event.occurred_at)}","datacontenttype":"application/json","data":{event.payload}}}'
    ).encode()


FORMATS: Mapping[str, PayloadFormat] = MappingProxyType(
    {
        "standard": PayloadFormat("standard", CONTENT_TYPE, _standard),
        "raw": PayloadFormat("raw", CONTENT_TYPE, _raw),
        "cloudevents": PayloadFormat("cloudevents", CLOUDEVENTS_TYPE, _cloudevents),
    }
)


@lru_cache(
    maxsize=4096
)  # Some hundred types are used over and over; the bound is against a producer that invents them.
def _text(event_type: str) -> str:
    return orjson.dumps(event_type).decode()


@lru_cache(maxsize=4096)  # as above
def _head(event_type: str) -> str:
    return f'{{"type":{orjson.dumps(event_type).decode()},"timestamp":"'


__all__ = [
    "CONTENT_TYPE",
    "FORMATS",
    "FormatFailed",
    "PayloadFormat",
    "built_in_names",
    "is_built_in",
    "resolve",
    "unknown",
]
