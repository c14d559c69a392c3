"""A payload format as it is written down, read and checked; every refusal names the place."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dispatcher.errors import InvalidInput
from dispatcher.expressions import expression
from dispatcher.formats.references import INSTANTS, OF_EVENT

FIELD: Final = "payload_format"
MOST_BYTES: Final = 65536
"""Of a definition: the largest known takes 2 KB."""
MOST_FIELDS: Final = 200
"""Of one object."""
DEEPEST: Final = 10
"""Objects within objects."""
REFERENCE: Final = re.compile(r"\{([^{}]*)\}")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}")
_KINDS: Final = ("event", "constant", "payload", "cel", "text", "fields")


class FieldDefinition(BaseModel):
    """One member of an object: its name, and where its value comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=255)
    event: str | None = None
    """Of the event: `id`, `type`, `tenant`, `occurred_at`."""
    form: str = Field(default="iso", alias="as")
    """How an instant is written: one of `INSTANTS`."""
    constant: Any = None
    payload: bool | str | None = None
    """`true`: all of it; `"visit.note"`: that part; copied as inserted."""
    optional: bool = False
    """Leave the member out where that part of the payload is missing."""
    cel: str | None = None
    text: str | None = None
    """A text with `{id}`, `{type}`, `{tenant}`, `{occurred_at}` in it."""
    fields: tuple["FieldDefinition", ...] | None = Field(default=None, max_length=MOST_FIELDS)
    """An object within."""
    types: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Only for these event types or patterns; null: for all."""

    @model_validator(mode="after")
    def _has_one_value(self) -> Self:
        given = [kind for kind in _KINDS if kind in self.model_fields_set]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_KINDS)}")
        if self.payload is False:
            raise ValueError('payload is true, or the path of a part, like "visit.note"')
        if self.optional and not isinstance(self.payload, str):
            raise ValueError("optional is for a part of the payload")
        if "form" in self.model_fields_set and self.event != "occurred_at":
            raise ValueError('"as" is for event = "occurred_at"')
        return self

    @field_validator("event")
    @classmethod
    def _known_of_event(cls, value: str) -> str:
        if value not in OF_EVENT:
            raise ValueError(f"an event has no `{value[:50]}`, but {', '.join(OF_EVENT)}")
        return value

    @field_validator("form")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if value not in INSTANTS:
            raise ValueError(f"`{value[:50]}` is none of {', '.join(INSTANTS)}")
        return value

    @field_validator("text")
    @classmethod
    def _known_references(cls, value: str) -> str:
        for reference in REFERENCE.findall(value):
            if reference not in OF_EVENT:
                raise ValueError(f"an event has no `{reference[:50]}`, but {', '.join(OF_EVENT)}")
        return value

    @field_validator("payload")
    @classmethod
    def _path(cls, value: bool | str) -> bool | str:  # noqa: FBT001 - pydantic calls it like this
        if isinstance(value, str) and not all(value.split(".")):
            raise ValueError('a path is names with full stops between, like "visit.note"')
        return value

    @field_validator("cel")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            return expression(value, field=FIELD).text
        except InvalidInput as error:
            raise ValueError(str(error)) from None


class Definition(BaseModel):
    """A payload format as it is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    description: str | None = Field(default=None, max_length=1000)
    content_type: str = Field(default="application/json", pattern=r"^application/(?:[a-z0-9.-]+\+)?json$")
    deprecated: date | None = None
    """The day from which nobody should use it any more; it goes on working."""
    fields: tuple[FieldDefinition, ...] = Field(min_length=1, max_length=MOST_FIELDS)

    @property
    def full_name(self) -> str:
        """As endpoints name it: `vsee/2.0`."""
        return f"{self.name}/{self.version}"

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is lower-case letters, digits, `-` and `_`")
        return value

    @field_validator("version")
    @classmethod
    def _is_version(cls, value: str) -> str:
        if not _VERSION.fullmatch(value):
            raise ValueError("a version is letters, digits, full stops, `-` and `_`, at most 32")
        return value

    @model_validator(mode="after")
    def _objects(self) -> Self:
        _check_object(self.fields, depth=1)
        return self


def _check_object(fields: Sequence[FieldDefinition], *, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"objects are nested deeper than {DEEPEST}")
    seen: dict[str, bool] = {}
    """Names, and whether one of them is there for all event types."""
    for field in fields:
        # of several with `types` the first one for an event type is written
        if field.name in seen and (field.types is None or seen[field.name]):
            raise ValueError(f"the field `{field.name}` is there twice")
        seen[field.name] = seen.get(field.name, False) or field.types is None
        if field.fields is not None:
            _check_object(field.fields, depth=depth + 1)


def read(text: str, *, source: str) -> Definition:
    """Read a definition from the text of a `.toml` or `.json` file; raises InvalidInput, naming file and place."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise InvalidInput(f"{source}: a payload format has at most {MOST_BYTES} bytes.", field=FIELD)
    try:
        document = tomllib.loads(text) if source.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if source.endswith(".toml") else "JSON"
        raise InvalidInput(f"{source} is not {kind}: {error}.", field=FIELD) from None
    return check(document, source=source)


def check(document: Any, *, source: str) -> Definition:
    """Check a definition; raises InvalidInput, naming every place where something is wrong."""
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        faults = [f"{_place(fault['loc'])}: {_message(fault)}" for fault in error.errors()[:10]]
        raise InvalidInput(f"{source} is no payload format. {' '.join(faults)}", field=FIELD) from None


def _place(location: Sequence[int | str]) -> str:
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return place.removeprefix(".") or "the whole"


def _message(fault: Mapping[str, Any]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{message.rstrip('.')}."


def written(definition: Definition) -> str:
    """Write a definition as the JSON that is stored."""
    shown = definition.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return json.dumps(shown, ensure_ascii=False)
