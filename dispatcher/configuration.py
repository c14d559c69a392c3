"""Reads the configuration: `config.toml`, then `DISPATCHER_<SECTION>__<KEY>`; every mistake is a `ConfigError`.

What there is to configure stands in `settings`. Files and variables are read here and not by pydantic-settings' own
sources, which take the process's environment, pass over names they do not know, and cannot say where a wrong value came
from.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dispatcher.errors import ConfigError
from dispatcher.settings import SECRETS, SECTIONS, Section, Settings

PREFIX = "DISPATCHER_"
FILE_VARIABLE = "DISPATCHER_CONFIG"
DEFAULT_FILE = Path("config.toml")

_VARIABLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        f"{PREFIX}{section}__{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
)

_INJECTED = re.compile(r"DISPATCHER_(.+_)?(SERVICE_(HOST|PORT)(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)")
"""Kubernetes adds these to every pod when a Service is called `dispatcher` or `dispatcher-…`: nobody's mistake."""


@dataclass(slots=True)
class _Given:
    """What was found so far: values and where each comes from, and what is wrong with the names."""

    values: dict[str, dict[str, object]] = field(default_factory=lambda: {section: {} for section in SECTIONS})
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, section: str, key: str, value: object, *, origin: str) -> None:
        """Let a value override what was there; an empty text stands for null where null is possible."""
        optional = NoneType in get_args(SECTIONS[section].model_fields[key].annotation)
        self.values[section][key] = None if value == "" and optional else value
        self.origins[section, key] = origin


def load(config: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file (`config`, else `DISPATCHER_CONFIG`, else `./config.toml` if it is there) and the variables.

    Raises `ConfigError` that names every wrong key or variable, one line each, and says how to mend it.
    """
    given = _Given()
    if (path := _file(config, environ)) is not None:
        _take_file(given, path)
    _take_variables(given, environ)
    sections: dict[str, Section] = {}
    for section, model in SECTIONS.items():
        try:
            sections[section] = model.model_validate(given.values[section])
        except ValidationError as error:
            given.problems += [_wrong_value(section, detail, given.origins) for detail in error.errors()]
    if given.problems:
        raise ConfigError("\n".join(given.problems))
    return Settings.model_validate(sections)


def _file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = config or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    if not named.exists():
        raise ConfigError(
            f"{'--config' if config else FILE_VARIABLE}: there is no file {named}. Correct the path, or leave it out to "
            "run on the defaults; config.example.toml is a file to begin with."
        )
    return named


def _take_file(given: _Given, path: Path) -> None:
    for section, table in _tables(path).items():
        model = SECTIONS.get(section)
        if not isinstance(table, dict):
            given.problems.append(f"{path}: `{section}` stands outside any section. {_belongs(section)}")
        elif model is None:
            hint = _near(section, SECTIONS) or f"The sections are {_listed(SECTIONS)}."
            given.problems.append(f"{path}: there is no section [{section}]. {hint}")
        else:
            for key, value in table.items():
                if key in model.model_fields:
                    given.take(section, key, value, origin=f"{path}: [{section}] {key}")
                else:
                    hint = _near(key, model.model_fields) or _belongs(
                        key, f"Its keys are {_listed(model.model_fields)}."
                    )
                    given.problems.append(f"{path}: [{section}] has no key `{key}`. {hint}")


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Correct the path or its permissions.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8, as a configuration is. Save it as that.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f'{path} is not valid TOML: {error}. A setting looks like `timeout = "15s"` and stands below a line with '
            "its section, like `[egress]`."
        ) from None


def _take_variables(given: _Given, environ: Mapping[str, str]) -> None:
    for name, value in sorted(environ.items()):
        if not name.upper().startswith(PREFIX) or name == FILE_VARIABLE or _is_injected(name, value):
            continue
        if name in _VARIABLES:
            given.take(*_VARIABLES[name], value, origin=name)
        else:
            hint = (
                _near(name.upper(), [*_VARIABLES, FILE_VARIABLE], prefix=PREFIX)
                or "config.example.toml shows every key."
            )
            given.problems.append(
                f"{name}: there is no such variable; they are called {PREFIX}<SECTION>__<KEY>. {hint}"
            )


def _is_injected(name: str, value: str) -> bool:
    return bool(_INJECTED.fullmatch(name)) or (name.endswith("_PORT") and bool(re.match("(tcp|udp|sctp)://", value)))


def _near(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """Name what may have been meant. A `prefix` that all have is not compared: it would make them all alike."""
    bare = [known.removeprefix(prefix) for known in names]
    near = get_close_matches(name.removeprefix(prefix), bare, n=2)
    return f"Did you mean {' or '.join(f'`{prefix}{one}`' for one in near)}?" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _belongs(key: str, otherwise: str = "Put it below its section, like `[egress]`.") -> str:
    """Say where a key is at home that stands elsewhere."""
    homes = [f"[{section}]" for section, model in SECTIONS.items() if key in model.model_fields]
    return f"There is one in {' and '.join(homes)}." if homes else otherwise


def _wrong_value(section: str, detail: ErrorDetails, origins: Mapping[tuple[str, str], str]) -> str:
    """Turn what pydantic found into a sentence that says where, what and how else."""
    key = str(detail["loc"][0])
    origin = origins[section, key]
    info = SECTIONS[section].model_fields[key]
    example = str((info.examples or [""])[0])
    example = f"{origin}={_as_variable(example)}" if origin in _VARIABLES else f"{key} = {example}"
    return f"{origin}: {_complaint(detail, secret=(section, key) in SECRETS)}. Write it like `{example}`."


def _as_variable(toml: str) -> str:
    value = json.loads(toml)
    return ",".join(value) if isinstance(value, list) else toml.strip('"')


_COMPLAINTS: Mapping[str, str] = MappingProxyType(
    {
        "literal_error": "{shown} is not one of {expected}",
        "bool_parsing": "{shown} is neither true nor false",
        "bool_type": "{shown} is neither true nor false",
        "int_parsing": "{shown} is not a whole number",
        "int_type": "{shown} is not a whole number",
        "int_from_float": "{shown} is not a whole number",
        "float_parsing": "{shown} is not a number",
        "float_type": "{shown} is not a number",
        "tuple_type": "{shown} is not a list",
        "string_type": "{shown} is not text",
        "string_pattern_mismatch": "{shown} does not look like one",
        "greater_than": "{shown} is not more than {gt:g}",
        "greater_than_equal": "{shown} is less than {ge:g}",
        "less_than_equal": "{shown} is more than {le:g}",
    }
)
"""Ours for pydantic's types of error."""


def _complaint(detail: ErrorDetails, *, secret: bool) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"]).removesuffix(".")
    shown = "what is given" if secret else repr(detail["input"])
    return _COMPLAINTS.get(detail["type"], "{shown} cannot be used").format(shown=shown, **context)
