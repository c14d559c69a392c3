"""Parts of a payload, copied as they were inserted."""

import json
import re
from collections.abc import Mapping
from typing import Final

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class FormatFailed(Exception):
    """A format cannot make a body of one event; `str()` names the field and says why."""


class Parts:
    """The members of a payload's objects as slices of its text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._objects: dict[tuple[str, ...], Mapping[str, tuple[int, int]]] = {}

    def at(self, path: tuple[str, ...]) -> str | None:
        """Return the JSON text at a path, None if there is nothing; raises FormatFailed for what cannot be read."""
        place = self._place(path)
        return None if place is None else self._text[place[0] : place[1]]

    def _place(self, path: tuple[str, ...]) -> tuple[int, int] | None:
        return self._members(path[:-1]).get(path[-1])

    def _members(self, path: tuple[str, ...]) -> Mapping[str, tuple[int, int]]:
        found = self._objects.get(path)
        if found is None:
            start = self._skip(0) if not path else (self._place(path) or (-1, -1))[0]
            is_object = start >= 0 and self._text[start : start + 1] == "{"
            found = self._objects[path] = self._read(start + 1) if is_object else {}
        return found

    def _read(self, at: int) -> Mapping[str, tuple[int, int]]:
        """Find the members of the object whose first key may stand here; of two with one name the last counts."""
        text, members = self._text, {}
        at = self._skip(at)
        try:
            while text[at] != "}":
                name, at = _DECODER.raw_decode(text, at)
                start = self._skip(self._skip(at) + 1)  # past the colon
                _, end = _DECODER.raw_decode(text, start)
                members[name] = (start, end)
                at = self._skip(end)
                if text[at] == ",":
                    at = self._skip(at + 1)
        except (ValueError, IndexError, RecursionError) as error:
            raise FormatFailed(f"the payload cannot be parsed: {type(error).__name__}") from None
        return members

    def _skip(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return at if found is None else found.end()
