"""Cursors of lists: where a page ended, as text that is handed back to read on. Opaque, and checked when it comes back."""

import base64
from datetime import UTC, datetime
from typing import Any

import orjson

from dispatcher.errors import InvalidInput

BAD_CURSOR = "The cursor is not one of this list. Take it from the page before, or leave it out to begin."


def written(kind: str, *parts: Any) -> str:
    """Write a cursor of a list, named by `kind`; parts are texts, whole numbers and aware datetimes."""
    texts = [part.isoformat() if isinstance(part, datetime) else part for part in parts]
    return base64.urlsafe_b64encode(orjson.dumps([kind, *texts])).decode().rstrip("=")


def read(cursor: str, kind: str, count: int) -> list[Any]:
    """Return the `count` parts of a cursor of a list, instants still as text; raises InvalidInput."""
    try:
        found, *parts = orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except (ValueError, TypeError):
        raise bad() from None
    if found != kind or len(parts) != count:
        raise bad()
    return list(parts)


def instant(text: Any) -> datetime:
    """Read an instant of a cursor; raises InvalidInput."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except (ValueError, TypeError):
        raise bad() from None


def number(value: Any, *, most: int) -> int:
    """Read a whole number from 0 to `most` of a cursor; raises InvalidInput."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise bad()
    return value


def bad(*, field: str = "cursor") -> InvalidInput:
    """Say that a cursor is none."""
    return InvalidInput(BAD_CURSOR, field=field)
