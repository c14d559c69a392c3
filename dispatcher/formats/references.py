"""What a field can take from an event itself, and how instants are written."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from dispatcher.model import Event

_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def iso(instant: float, timespec: str = "microseconds") -> str:
    """Return an instant as ISO 8601 in UTC, by default with microseconds, as exact as Postgres keeps it.

    Postgres knows years that the four digits of ISO 8601 do not (and infinity): the nearest instant stands for those,
    because an event that cannot be written would never be delivered.
    """
    nearest = min(max(instant, _FIRST), _LAST)
    return datetime.fromtimestamp(nearest, UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


def _unix(instant: float) -> int:
    return int(min(max(instant, _FIRST), _LAST))


INSTANTS: Mapping[str, Callable[[float], Any]] = MappingProxyType(
    {
        "iso": iso,
        "iso_milliseconds": lambda instant: iso(instant, "milliseconds"),
        "iso_seconds": lambda instant: iso(instant, "seconds"),
        "unix": _unix,
        "unix_milliseconds": lambda instant: int(min(max(instant, _FIRST), _LAST) * 1000),
        "unix_text": lambda instant: str(_unix(instant)),
    }
)

OF_EVENT: Mapping[str, Callable[[Event], Any]] = MappingProxyType(
    {
        "id": lambda event: str(event.id),
        "type": lambda event: event.event_type,
        "tenant": lambda event: event.tenant,
        "occurred_at": lambda event: iso(event.occurred_at),
    }
)
