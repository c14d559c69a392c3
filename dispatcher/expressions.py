"""CEL expressions (cel.dev) over an event: filters, and computed fields of payload formats. Compiles, evaluates, explains.

The library is `cel-expr-python`, the CEL project's own C++ runtime. Of the three on PyPI it alone bounds what an
expression can cost (10,000 iterations, 32 levels: nested `exists` over a long list held `common-expression-language`,
a binding of the Rust crate, for minutes, and a long sum crashed it), and it alone checks names and types beforehand, so
that a misspelt `event.typ` or a filter that is no condition is refused at the door. It is also the fastest where an
expression looks into the payload: 18 us, against 50 us there and 670 us for `cel-python`, which is pure Python (measured
in one run, two cores).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from dispatcher.errors import InvalidInput
from dispatcher.model import Event

LONGEST: Final = 2000
"""Characters of an expression: what is longer is a program, and belongs into the producer."""

COMPILED: Final = 4096
"""Expressions kept compiled, some 10 KB each; compiling takes about 0.2 ms."""

SHOWN: Final = 80
"""Characters of an expression in a message: enough to tell which one it is."""

INT64: Final = 1 << 63
"""CEL's integers are smaller than this; JSON's larger ones become doubles, as in JavaScript."""

PAYLOAD: Final = "payload"

_LARGE: Final = re.compile(r"\d{19}")
_CAN_GROW: Final = "_+_"
_PLACE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_STATUS: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")

_NOISE: Final = re.compile(r" \(in container ''\)$| expecting \{.*\}$")

_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


class ExpressionFailed(Exception):
    """An expression came to nothing for one event; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    _compiled: Any

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Return the value, as plain Python data; raises ExpressionFailed. `variables` are those of `variables_of`."""
        try:
            value = self._compiled.eval(data=variables)
            plain = value.plain_value()
        except Exception as error:  # noqa: BLE001 - the binding raises RuntimeError, and whatever else it comes upon
            raise ExpressionFailed(_said(str(error))) from None
        if value.type().name() == "ERROR":
            raise ExpressionFailed(_said(str(plain)))
        return plain


def condition(text: str, *, field: str) -> Expression:
    """Compile an expression that a tenant wrote, and that is true or false. Raises InvalidInput, naming the place.

    It can neither add nor build lists: `+`, `map` and `filter` let a few characters fill all memory.
    """
    return _compiled(text, condition=True, field=field)


def expression(text: str, *, field: str) -> Expression:
    """Compile an expression of any type, that an operator wrote. Raises InvalidInput, naming the place."""
    return _compiled(text, condition=False, field=field)


def _compiled(text: str, *, condition: bool, field: str) -> Expression:
    if not text.strip():
        raise InvalidInput("An empty expression says nothing. Leave it out.", field=field)
    if re.search(r"[\x00\ud800-\udfff]", text):
        raise InvalidInput("The expression holds a NUL character or half a surrogate pair. Leave it out.", field=field)
    if len(text) > LONGEST:
        raise InvalidInput(f"An expression has at most {LONGEST} characters; this one has {len(text)}.", field=field)
    try:
        return _compile(text, condition=condition)
    except _Refused as refusal:
        raise InvalidInput(str(refusal), field=field) from None


class _Refused(ValueError):
    """What `_compile` has to say; the field is its caller's."""


@lru_cache(maxsize=COMPILED)
def _compile(text: str, *, condition: bool) -> Expression:
    try:
        compiled = _environment(condition=condition).compile(text)
    except Exception as error:  # noqa: BLE001 - see `Expression.evaluate`
        raise _Refused(_faults(str(error), text)) from None
    kind = compiled.return_type().name()
    if condition and kind not in {"BOOL", "DYN"}:
        raise _Refused(
            f"`{shown(text)}` is a {kind.lower()}, and no condition. Compare it with something, as in `a == 1`."
        )
    return Expression(text, compiled)


@lru_cache(maxsize=2)
def _environment(*, condition: bool) -> Any:
    from cel_expr_python import cel  # takes a tenth of a second, which `--help` shall not take

    names = {
        PAYLOAD: cel.Type.DYN,
        "event.id": cel.Type.STRING,
        "event.type": cel.Type.STRING,
        "event.tenant": cel.Type.STRING,
        "event.occurred_at": cel.Type.TIMESTAMP,
    }
    if not condition:
        return cel.NewEnv(variables=names)
    config = cel.NewEnvConfigFromYaml(f'stdlib:\n  exclude_functions:\n    - name: "{_CAN_GROW}"\n')
    return cel.NewEnv(config=config, variables=names)


def variables_of(event: Event) -> dict[str, Any]:
    """Return what expressions see of an event. Parses the payload: once, however many expressions follow.

    Raises ExpressionFailed for a payload that Postgres holds to be JSON, and no parser does.
    """
    return {PAYLOAD: parsed(event.payload), **header_of(event)}


def header_of(event: Event) -> dict[str, Any]:
    """Return what expressions see of an event beside its payload."""
    return {
        "event.id": str(event.id),
        "event.type": event.event_type,
        "event.tenant": event.tenant,
        "event.occurred_at": _instant(event.occurred_at),
    }


def parsed(payload: str) -> Any:
    """Parse a payload; raises ExpressionFailed for one that is nested too deeply.

    What `json` in Postgres may hold and others may not, half a surrogate pair or 1e400, is replaced by the nearest thing.
    """
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            return _tamed(json.loads(payload))
        except (ValueError, RecursionError) as error:
            raise ExpressionFailed(f"the payload cannot be parsed: {type(error).__name__}") from None
    return _tamed(value) if _LARGE.search(payload) else value


def _tamed(value: Any) -> Any:
    match value:
        case dict():
            return {_tamed(key): _tamed(member) for key, member in value.items()}
        case list():
            return [_tamed(member) for member in value]
        case str():
            return value.encode(errors="replace").decode()
        case bool():
            return value
        case int():
            return value if -INT64 <= value < INT64 else _double(value)
        case _:
            return value


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _instant(seconds: float) -> datetime:
    if seconds <= _FIRST.timestamp():
        return _FIRST
    return _LAST if seconds >= _LAST.timestamp() else datetime.fromtimestamp(seconds, UTC)


def _faults(said: str, text: str) -> str:
    """Put the compiler's message into one line: what, and where."""
    found = _PLACE.search(said)
    if _CAN_GROW in said:
        what = "a filter has no `+`, `map`, `filter` or `exists_one`"
    elif found:
        what = _NOISE.sub("", found[3])
    else:
        what = _said(said)
    line, column = (int(found[1]), int(found[2])) if found else (1, 1)
    where = f"column {column}" if line == 1 else f"line {line}, column {column}"
    return f"`{shown(text)}` is no expression that can be used: {what}, at {where}."


def _said(message: str) -> str:
    """Take the error's code and newlines off a message of the runtime."""
    line = " ".join(message.split())
    while (shorter := _STATUS.sub("", line)) != line:
        line = shorter
    return line[:300] or "no reason given"


def shown(text: str) -> str:
    """Return the start of an expression, in one line, for a message."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
