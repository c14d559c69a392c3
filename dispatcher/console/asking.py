"""Reads what the query of a page asks for; what cannot be meant is an `InvalidInput` that names the field."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from dispatcher.console.view import View
from dispatcher.errors import InvalidInput, NotFound

T = TypeVar("T", bound=str)


def identifier(text: str, what: str) -> UUID:
    """Read the id of a thing from a path; what is none leads nowhere. Raises NotFound."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"There is no {what} of that id.") from None


def whole_number(text: str, what: str) -> int:
    """Read the number of a thing from a path. Raises NotFound."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):  # noqa: PLR2004 - digits of a bigint
        raise NotFound(f"There is no {what} of that number.")
    return int(text)


def uuid(view: View, name: str) -> UUID | None:
    """Read an id that a filter names."""
    text = view.given(name)
    return None if text is None else read_uuid(text, field=name)


def read_uuid(text: str, *, field: str) -> UUID:
    """Read an id that somebody typed."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("That is no id: 32 hexadecimal digits with hyphens.", field=field) from None


def instant(view: View, name: str) -> datetime | None:
    """Read an instant that a filter names."""
    text = view.given(name)
    return None if text is None else read_instant(text, field=name)


def read_instant(text: str, *, field: str) -> datetime:
    """Read an instant as a browser's field writes it, or in ISO 8601; UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("That is no instant: write it as `2026-01-31T12:00`, in UTC.", field=field) from None


def one_of(view: View, name: str, known: Sequence[T]) -> T | None:
    """Read a word of a list."""
    text = view.given(name)
    if text is None:
        return None
    for word in known:
        if word == text:
            return word
    raise InvalidInput(f"There is {', '.join(known)}.", field=name)
