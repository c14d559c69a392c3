"""What a field can take from an event itself, and how instants are written."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from dispatcher.model import Event

_MICROS = 1_000_000
_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def iso(instant: float, timespec: str = "microseconds") -> str:
    """Return an instant as ISO 8601 in UTC, by default with microseconds, as exact as Postgres keeps it.

    Postgres knows years that the four digits of ISO 8601 do not (and infinity): the nearest instant stands for those,
    because an event that cannot be written would never be delivered.
    """
    nearest = min(max(instant, _FIRST), _LAST)
    if timespec == "microseconds":
        fraction, second = math.modf(nearest)
        micros = round(fraction * 1e6)
        if 0 <= micros < _MICROS:  # not so before 1970, nor where it is rounded up to the next second
            return f"{_second(second)}.{micros:06d}Z"
    return datetime.fromtimestamp(nearest, UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


@lru_cache(maxsize=1024)  # events come in the order of time
def _second(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


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
