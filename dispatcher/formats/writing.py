"""Writes events by a definition, which is compiled once: to functions that each return the JSON text of a value."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import orjson

from dispatcher.expressions import Expression, ExpressionFailed, expression, variables_of
from dispatcher.formats.definition import FIELD, REFERENCE, Definition, FieldDefinition, read
from dispatcher.formats.parts import FormatFailed, Parts
from dispatcher.formats.references import INSTANTS, OF_EVENT
from dispatcher.model import Event

COMPILED: Final = 256
"""Formats kept compiled; a company has a handful."""


class _View:
    """One event, looked at from several sides, each at most once."""

    __slots__ = ("_parts", "_variables", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        self._parts: Parts | None = None
        self._variables: Mapping[str, Any] | None = None

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            self._parts = Parts(self.event.payload)
        return self._parts

    @property
    def variables(self) -> Mapping[str, Any]:
        if self._variables is None:
            self._variables = variables_of(self.event)
        return self._variables


_Write = Callable[[_View], str | None]
"""Return the JSON text of a value; None leaves the member out."""


@dataclass(frozen=True, slots=True)
class Format:
    """A compiled payload format."""

    full_name: str
    content_type: str
    deprecated: date | None
    _write: _Write

    def body(self, event: Event) -> bytes:
        """Return the body of an event, compact UTF-8 but for what is copied; raises FormatFailed, naming the field."""
        try:
            written = self._write(_View(event))
        except FormatFailed as failure:
            raise FormatFailed(f"The payload format {self.full_name} cannot write this event: {failure}.") from None
        return (written or "{}").encode(errors="replace")


@lru_cache(maxsize=COMPILED)
def compiled(definition: str) -> Format:
    """Compile a definition as it is stored; raises InvalidInput."""
    found = read(definition, source="the stored definition")
    return compile_format(found)


def compile_format(definition: Definition) -> Format:
    """Compile a definition."""
    write = _object(definition.fields, place="fields")
    return Format(definition.full_name, definition.content_type, definition.deprecated, write)


def _object(fields: Sequence[FieldDefinition], *, place: str) -> _Write:
    members = [
        (_json(field.name) + ":", field.types, _value(field, place=f"{place}[{number}] (`{field.name}`)"))
        for number, field in enumerate(fields)
    ]

    counts = Counter(key for key, _, _ in members)
    repeated = frozenset(key for key, count in counts.items() if count > 1)

    def write(view: _View) -> str:
        parts, written = [], set()
        for key, types, value in members:
            if key in written or (types is not None and not matches(types, view.event.event_type)):
                continue
            if key in repeated:  # of several of one name the first that is for this event type
                written.add(key)
            text = value(view)
            if text is not None:
                parts.append(key + text)
        return "{" + ",".join(parts) + "}"

    return write


def _value(field: FieldDefinition, *, place: str) -> _Write:
    if field.fields is not None:
        return _object(field.fields, place=f"{place}.fields")
    if field.event is not None:
        return _event(field.event, field.form)
    if field.text is not None:
        template = field.text
        return lambda view: _json(REFERENCE.sub(lambda found: str(OF_EVENT[found[1]](view.event)), template))
    if field.cel is not None:
        return _computed(expression(field.cel, field=FIELD), place)
    if field.payload is True:
        return lambda view: view.event.payload
    if isinstance(field.payload, str):
        return _part(tuple(field.payload.split(".")), place, optional=field.optional)
    constant = _json(field.constant)
    return lambda _: constant


def _event(name: str, form: str) -> _Write:
    if name == "occurred_at":
        shape = INSTANTS[form]
        return lambda view: _json(shape(view.event.occurred_at))
    of = OF_EVENT[name]
    return lambda view: _json(of(view.event))


def _part(path: tuple[str, ...], place: str, *, optional: bool) -> _Write:
    def write(view: _View) -> str | None:
        try:
            text = view.parts.at(path)
        except FormatFailed as failure:
            raise FormatFailed(f"{place}: {failure}") from None
        if text is None and not optional:
            raise FormatFailed(f"{place}: the payload has no `{'.'.join(path)}`")
        return text

    return write


def _computed(computed: Expression, place: str) -> _Write:
    def write(view: _View) -> str:
        try:
            return _json(computed.evaluate(view.variables))
        except (ExpressionFailed, TypeError) as failure:
            raise FormatFailed(f"{place}: `{computed.text}` failed: {failure}") from None

    return write


def _json(value: Any) -> str:
    """Write a value compactly; raises TypeError for what JSON has no words for."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()


def _plain(value: Any) -> Any:
    match value:
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case timedelta():
            return f"{value.total_seconds():g}s"
        case date():  # TOML's, in a constant
            return value.isoformat()
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


def matches(patterns: Sequence[str], event_type: str) -> bool:
    """Whether an event type is one of some, or matches a pattern, as subscriptions do."""
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )
