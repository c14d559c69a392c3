"""Finds where the parts of a JSON text stand, so that a payload can be passed on as it was written.

Parsing and writing again would spell numbers anew (`1.10`, `1e3`) and fold double names; what subscribers get is what
producers sent, to the byte.
"""

import json
import re

_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")


def members(text: str) -> dict[str, str]:
    """Return the members of an object, each value as the text that it is. Raises ValueError unless `text` is an object."""
    found: dict[str, str] = {}
    position = _opened(text, "{")
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        position = _blanks(text, _expected(text, _blanks(text, position), ":"))
        found[name], position = _value(text, position)
    return found


def elements(text: str) -> list[str]:
    """Return the elements of an array, each as the text that it is. Raises ValueError unless `text` is an array."""
    found = []
    position = _opened(text, "[")
    while text[position] != "]":
        element, position = _value(text, position)
        found.append(element)
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins here, and where the next begins, or the end of what holds them."""
    _, end = _DECODER.raw_decode(text, position)
    after = _blanks(text, end)
    if text[after] == ",":
        after = _blanks(text, after + 1)
    return text[position:end], after


def _opened(text: str, bracket: str) -> int:
    return _blanks(text, _expected(text, _blanks(text, 0), bracket))


def _expected(text: str, position: int, character: str) -> int:
    if text[position : position + 1] != character:
        raise ValueError(f"There is no {character} where one should be.")
    return position + 1


def _blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return position if match is None else match.end()
