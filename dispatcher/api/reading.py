"""Reads what a request brings, body and query, into models; every mistake is said in words, with the place where it is."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dispatcher.api.problems import MALFORMED, MEDIA_TYPE, Problem, Wrong, invalid

Model = TypeVar("Model", bound=BaseModel)

_COMPLAINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "`{name}` is required, and is not there.",
        "string_type": "`{name}` must be a text.",
        "list_type": "`{name}` must be a list.",
        "dict_type": "`{name}` must be an object.",
        "model_type": "`{name}` must be an object.",
        "model_attributes_type": "`{name}` must be an object.",
        "bool_type": "`{name}` must be true or false.",
        "bool_parsing": "`{name}` must be true or false.",
        "int_type": "`{name}` must be a whole number.",
        "int_parsing": "`{name}` must be a whole number.",
        "int_from_float": "`{name}` must be a whole number.",
        "float_type": "`{name}` must be a number.",
        "float_parsing": "`{name}` must be a number.",
        "finite_number": "`{name}` must be a finite number.",
        "too_short": "`{name}` has too few entries: it takes {min_length} or more.",
        "too_long": "`{name}` has too many entries: it takes at most {max_length}.",
        "string_too_short": "`{name}` is too short: it takes {min_length} characters or more.",
        "string_too_long": "`{name}` is too long: it takes at most {max_length} characters.",
        "greater_than": "`{name}` must be more than {gt}.",
        "greater_than_equal": "`{name}` must be {ge} or more.",
        "less_than": "`{name}` must be less than {lt}.",
        "less_than_equal": "`{name}` must be at most {le}.",
        "literal_error": "`{name}` must be one of {expected}.",
        "uuid_type": "`{name}` must be a UUID, like 01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f.",
        "uuid_parsing": "`{name}` must be a UUID, like 01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f.",
    }
)
"""Ours for pydantic's types of error."""

_TIME: Final = "`{name}` must be a time of ISO 8601, like 2026-01-31T09:00:00Z."


async def body_text(request: web.Request) -> str:
    """Return the body of a request that must be JSON; empty if there is none."""
    data = await request.read()
    if not data:
        return ""
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(MEDIA_TYPE, f"The body is declared as {kind[:100]}. Send `Content-Type: application/json`.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem(MALFORMED, "The body is not UTF-8, as JSON has to be.") from None


def body(model: type[Model], text: str) -> Model:
    """Read a body; an empty one stands for an empty object. Raises `Problem`."""
    try:
        return model.model_validate_json(text or "{}")
    except ValidationError as error:
        details = error.errors(include_url=False)
        if details[0]["type"] == "json_invalid":
            why = str(details[0]["ctx"]["error"]) if text else "it is empty"
            raise Problem(MALFORMED, f"The body is not JSON: {why}.") from None
        raise invalid(_body_errors(model, details)) from None


def query(model: type[Model], request: web.Request) -> Model:
    """Read the query. Raises `Problem`."""
    given = request.query
    twice = [name for name in dict.fromkeys(given) if len(given.getall(name)) > 1]
    if twice:
        raise invalid([Wrong(f"`{name[:100]}` is there more than once.", parameter=name[:100]) for name in twice])
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        wrong = [
            Wrong(_complaint(detail, model, str(detail["loc"][0])), parameter=str(detail["loc"][0])[:100])
            for detail in error.errors(include_url=False)
        ]
        raise invalid(wrong) from None


def no_query(request: web.Request) -> None:
    """Refuse a query where there is nothing to ask for."""
    if request.query:
        name = next(iter(request.query))
        raise invalid([Wrong(f"This call takes no parameters; `{name[:100]}` is unknown.", parameter=name[:100])])


def place_of(
    field: str | None, body_model: type[BaseModel] | None, query_model: type[BaseModel] | None
) -> Wrong | None:
    """Say how the caller calls a field that `admin` names: where it is in the body, or which parameter.

    `field` is a name of the model, or a path in it, like `events/3/type`.
    """
    if field is None:
        return None
    if query_model is not None and field in query_model.model_fields:
        return Wrong("", parameter=_shown(query_model, field))
    if body_model is not None and field.partition("/")[0] in body_model.model_fields:
        return Wrong("", pointer="".join(f"/{part}" for part in _written(body_model, field.split("/"))))
    return None


def _written(model: type[BaseModel], path: Sequence[str]) -> Iterator[str]:
    """Translate a path of fields into the names that stand in the body."""
    for part in path:
        if part in model.model_fields:
            yield _shown(model, part)
            model = _inner(model, part) or model
        else:
            yield part


def _inner(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Return the model of a field's elements, if it is a list of models."""
    inner = next(iter(getattr(model.model_fields[field].annotation, "__args__", ())), None)
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _shown(model: type[BaseModel], field: str) -> str:
    return model.model_fields[field].alias or field


def _body_errors(model: type[BaseModel], details: Sequence[ErrorDetails]) -> list[Wrong]:
    """One error for each place: the members of a union each have their own complaint about it."""
    found: dict[str, Wrong] = {}
    for detail in details:
        path = _path(detail)
        pointer = "".join(f"/{_escaped(part)}" for part in path)
        if pointer not in found:
            named = [part for part in path if isinstance(part, str)]
            name = named[-1][:100] if named else "the body"
            found[pointer] = Wrong(_complaint(detail, _model_at(model, path), name), pointer=pointer)
    # where a member of a union was meant, what is wrong inside it says more than that it is not another member
    return [wrong for pointer, wrong in found.items() if not any(other.startswith(f"{pointer}/") for other in found)]


def _path(detail: ErrorDetails) -> list[str | int]:
    """Leave out of a location what is no place in the body: pydantic names the members of unions, too."""
    return [part for part in detail["loc"] if isinstance(part, int) or not _is_member(part)]


def _is_member(part: str) -> bool:
    return part in {"str", "float", "int", "bool"} or part.startswith(("list[", "function-", "constrained-"))


def _escaped(part: str | int) -> str:
    """Escape as RFC 6901 §3 wants it; a text that others wrote is cut."""
    return str(part)[:100].replace("~", "~0").replace("/", "~1")


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """Return the model that the last part of a path belongs to."""
    for part in path[:-1]:
        field = next((name for name in model.model_fields if _shown(model, name) == part), None)
        if field is not None:
            model = _inner(model, field) or model
    return model


def _complaint(detail: ErrorDetails, model: type[BaseModel], name: str) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(name, [info.alias or known for known, info in model.model_fields.items()])
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind.startswith(("datetime", "timezone", "date_")):
        return _TIME.format(name=name)
    template = _COMPLAINTS.get(kind)
    if template is None:
        return f"`{name}` cannot be used: {detail['msg']}."
    return template.format(name=name, **{key: _plain(value) for key, value in detail.get("ctx", {}).items()})


def _plain(value: Any) -> Any:
    """Write 604800.0 as people do."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unknown(name: str, known: Sequence[str]) -> str:
    """Name what may have been meant, whatever the case and the underscores."""
    plain = {one.lower().replace("_", ""): one for one in known}
    near = get_close_matches(name[:100].lower().replace("_", ""), plain, n=2)
    if near:
        return f"There is no `{name}`. Did you mean {' or '.join(f'`{plain[one]}`' for one in near)}?"
    if not known:
        return f"There is no `{name}`: this call takes nothing."
    return f"There is no `{name}`. There are: {', '.join(f'`{one}`' for one in known)}."
