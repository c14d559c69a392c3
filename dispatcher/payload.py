"""Payload formats: an event becomes the bytes of the body.

A payload is never parsed here. What the producer inserted goes out as it came in, with its key order, its spelling of
numbers and its escapes; a format only writes around it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType

import orjson

from dispatcher.errors import InvalidInput
from dispatcher.model import Event

CONTENT_TYPE = "application/json"
"""Of every format so far."""

_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def body(payload_format: str, event: Event) -> bytes:
    """Return the body of `event` in the named format, UTF-8. Raises `InvalidInput` for an unknown name."""
    return FORMATS[check_format(payload_format)](event)


def check_format(payload_format: str) -> str:
    """Return the name if there is such a format; raise `InvalidInput`, which names near misses, if not."""
    if payload_format in FORMATS:
        return payload_format
    near = get_close_matches(payload_format, FORMATS, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(f'`{name}`' for name in FORMATS)}."
    raise InvalidInput(f"There is no payload format `{payload_format[:100]}`. {hint}", field="payload_format")


def _standard(event: Event) -> bytes:
    """Write Standard Webhooks' `{"type", "timestamp", "data"}`; the timestamp is the event's, not the attempt's."""
    return f'{_head(event.event_type)}{_iso(event.occurred_at)}","data":{event.payload}}}'.encode()


def _raw(event: Event) -> bytes:
    """Write the payload's own bytes."""
    return event.payload.encode()


FORMATS: Mapping[str, Callable[[Event], bytes]] = MappingProxyType({"standard": _standard, "raw": _raw})


@lru_cache(
    maxsize=4096
)  # Some hundred types are used over and over; the bound is against a producer that invents them.
def _head(event_type: str) -> str:
    return f'{{"type":{orjson.dumps(event_type).decode()},"timestamp":"'


def _iso(instant: float) -> str:
    """Return an instant as ISO 8601 in UTC with microseconds, as exact as Postgres keeps it.

    Postgres knows years that the four digits of ISO 8601 do not (and infinity): the nearest instant stands for those,
    because an event that cannot be written would never be delivered.
    """
    nearest = min(max(instant, _FIRST), _LAST)
    return datetime.fromtimestamp(nearest, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
