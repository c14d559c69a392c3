"""Reads the configuration: `config.toml`, then `DISPATCHER_<SECTION>__<KEY>`; every mistake is a `ConfigError`.

The sections are small frozen models, handed one by one to what needs them; only `app` and the command line see the
whole. Files and variables are read here and not by pydantic-settings' own sources, which take the process's environment,
pass over names they do not know, and cannot say where a wrong value came from.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dispatcher import __version__
from dispatcher.errors import ConfigError, InvalidInput
from dispatcher.retry import DEFAULT_SCHEDULE, format_duration, parse_duration, parse_schedule
from dispatcher.sealing import parse_key

T = TypeVar("T")

PREFIX = "DISPATCHER_"
FILE_VARIABLE = "DISPATCHER_CONFIG"
DEFAULT_FILE = Path("config.toml")


def _list(value: object) -> object:
    """Take a variable's text apart: a JSON list, or values with commas between."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise ValueError("it begins like a JSON list but is none") from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _parsed(parse: Callable[[Any], T], value: Any) -> T:
    """Translate our refusals into the one that pydantic collects."""
    try:
        return parse(value)
    except (InvalidInput, ConfigError) as error:
        raise ValueError(str(error)) from None


def _duration(value: object) -> object:
    return _parsed(parse_duration, value) if isinstance(value, str | int | float) else value


def _schedule(value: object) -> object:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _list(value)
    return _parsed(parse_schedule, value) if isinstance(value, str | list | tuple) else value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value.strip())
    except ValueError:
        raise ValueError(
            f"{value!r} is not a network: an address, a slash, and a prefix that covers its set bits"
        ) from None


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.strip().rpartition(":")
    whole = bool(host) and (":" not in host or (host.startswith("[") and host.endswith("]")))
    if not colon or not whole or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise ValueError(f"{value!r} is not an address to listen on: a host, a colon and a port")
    return f"{host}:{int(port)}"


def _database_url(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("it does not begin with postgresql://")
    return value


def _sealing_key(value: object) -> object:
    if isinstance(value, str):
        _parsed(parse_key, value)
    return value


def _user_agent(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.isprintable() and value.strip()):
        raise ValueError(f"{value!r} is not printable ASCII, as a header has to be")
    return value.strip().replace("{version}", __version__)


def _path(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    try:
        return Path(value).expanduser()
    except RuntimeError:  # a user without a home, as containers like to have: the working folder stands in for it
        return Path(str(value).replace("~", ".", 1))


def _existing_file(value: object) -> object:
    path = _path(value)
    if isinstance(path, Path) and not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


Duration = Annotated[float, BeforeValidator(_duration)]
"""Seconds; written as `"15s"`, `"5m"`, `"24h"`, `"5d"`."""
Positive = Annotated[Duration, Field(gt=0)]
Schedule = Annotated[tuple[float, ...], BeforeValidator(_schedule)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Listen = Annotated[str, BeforeValidator(_listen)]
FilePath = Annotated[Path, BeforeValidator(_path)]
SealingKey = Annotated[SecretStr, BeforeValidator(_sealing_key)]
Days = Annotated[int, Field(ge=1, le=36500)]
"""At most a century: what is meant to be kept for ever may as well say so."""


class Section(BaseModel):
    """One table of the file. Unknown keys are found before pydantic sees them, for a better message."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class DatabaseSettings(Section):
    """Where the data is."""

    url: Annotated[SecretStr, BeforeValidator(_database_url)] | None = Field(
        None, examples=['"postgresql://user:password@host:5432/name"']
    )
    """Null: an embedded server in `data_directory`."""
    data_directory: FilePath = Field(Path("~/.local/share/dispatcher"), examples=['"/var/lib/dispatcher"'])
    pool_size: int = Field(5, ge=2, le=100, examples=["5"])
    """Connections per worker process. Few are enough, because all work is done in batches; one is for waking up."""
    notify: bool = Field(default=True, examples=["true"])
    pgbouncer: bool = Field(default=False, examples=["false"])

    @property
    def listens(self) -> bool:
        """True if workers are woken by LISTEN, which a pooler in transaction mode cannot carry."""
        return self.notify and not self.pgbouncer


class ApiSettings(Section):
    """The tenants' HTTP API."""

    listen: Listen = Field("127.0.0.1:8080", examples=['"127.0.0.1:8080"'])
    body_limit: int = Field(1048576, ge=1024, le=104857600, examples=["1048576"])
    """Bytes of a request's body."""
    rate_limit: float = Field(100.0, ge=0, examples=["100"])
    """Requests a second for each key, twice as many at once; 0 for any number."""
    pool_size: int = Field(5, ge=1, le=100, examples=["5"])
    """Connections to the database, beside those of the workers."""


class OpsSettings(Section):
    """Console, metrics and health checks."""

    listen: Listen = Field("127.0.0.1:8081", examples=['"127.0.0.1:8081"'])
    console_url: str | None = Field(
        None, pattern="^https?://[^ ]+$", examples=['"https://dispatcher.internal.example"']
    )
    """Where people reach the console; mails link to it. Null: no links."""


class EgressSettings(Section):
    """Requests to subscribers."""

    https_only: bool = Field(default=True, examples=["true"])
    allow_subnets: Annotated[tuple[Network, ...], BeforeValidator(_list)] = Field((), examples=['["10.1.0.0/16"]'])
    timeout: Positive = Field(15.0, examples=['"15s"'])
    connect_timeout: Positive = Field(5.0, examples=['"5s"'])
    user_agent: Annotated[str, BeforeValidator(_user_agent)] = Field(
        "dispatcher/{version}", examples=['"dispatcher/{version}"']
    )
    origin: str = Field(
        "dispatcher", pattern=r"^[0-9A-Za-z]([0-9A-Za-z.-]{0,251}[0-9A-Za-z])?$", examples=['"events.example.com"']
    )
    """How the service calls itself where a subscriber is asked for consent (CloudEvents)."""
    answer_limit: int = Field(16384, ge=0, le=1048576, examples=["16384"])
    """Bytes of an answer's body that are read and kept."""
    ca_file: Annotated[Path, BeforeValidator(_existing_file)] | None = Field(
        None, examples=['"/etc/dispatcher/private-ca.pem"']
    )
    """Certificates that are trusted beside the machine's own."""


class DeliverySettings(Section):
    """How much is sent at once."""

    in_flight: int = Field(512, ge=1, le=100000, examples=["512"])
    """Requests at once, per worker process; each counts until its result is written down. A crash repeats no more."""
    in_flight_per_endpoint: int = Field(64, ge=1, le=100000, examples=["64"])
    in_flight_start: int = Field(4, ge=1, le=100000, examples=["4"])
    """What a lane starts with, before it is known how much its endpoint can take."""
    grace: Duration = Field(20.0, examples=['"20s"'])
    """How long a worker that is told to stop waits for requests in flight."""
    store_answers: bool = Field(default=True, examples=["true"])
    """Keep the headers and the body (up to `[egress] answer_limit`) of answers in the log of attempts."""


class RetrySettings(Section):
    """When a failed attempt is made again."""

    schedule: Schedule = Field(DEFAULT_SCHEDULE, examples=['["5s", "5m", "30m", "2h"]'])
    jitter: float = Field(0.2, ge=0, le=1, examples=["0.2"])


class HealthSettings(Section):
    """When an endpoint that only fails is warned about, and disabled."""

    warn_after: Duration = Field(86400.0, examples=['"24h"'])
    disable_after: Positive = Field(432000.0, examples=['"5d"'])


class SmtpSettings(Section):
    """The mail server; without a host no mail is sent."""

    host: str | None = Field(None, examples=['"smtp.example.com"'])
    port: int = Field(25, ge=1, le=65535, examples=["25"])
    username: str | None = Field(None, examples=['"dispatcher"'])
    password: SecretStr | None = Field(None, examples=['"…"'])
    sender: str = Field("dispatcher@localhost", pattern=r"^[^\r\n]*@[^\r\n]+$", examples=['"webhooks@example.com"'])
    tls: Literal["none", "starttls", "tls"] = Field("none", examples=['"starttls"'])


class NoticesSettings(Section):
    """E-mails about dead deliveries and endpoint health."""

    digest_every: Positive = Field(3600.0, examples=['"1h"'])


class ShardsSettings(Section):
    """How workers share the work."""

    lease: Duration = Field(10.0, ge=1, examples=['"10s"'])
    """How long after a worker's death its shards are taken over; also the longest it may work without the database."""


class RetentionSettings(Section):
    """How many days history is kept."""

    events: Days = Field(90, examples=["90"])
    deliveries: Days = Field(90, examples=["90"])
    attempts: Days = Field(30, examples=["30"])


class OutboxSettings(Section):
    """The table that producers insert into."""

    idempotency_window: Positive = Field(86400.0, examples=['"24h"'])
    notify_every: Duration = Field(0.05, examples=['"50ms"'])


class SealingSettings(Section):
    """Main keys that encrypt the endpoints' secrets."""

    keys: Annotated[tuple[SealingKey, ...], BeforeValidator(_list)] = Field(
        (), examples=['["2026:base64 of 32 random bytes"]']
    )
    """`id:base64`; the first one seals, all open. None: secrets are stored as they are."""


class CatalogSettings(Section):
    """Event types known beforehand."""

    files: Annotated[tuple[FilePath, ...], BeforeValidator(_list)] = Field((), examples=['["catalog/events.yaml"]'])
    mode: Literal["off", "warn", "enforce"] = Field("off", examples=['"off"'])


class LogSettings(Section):
    """What is written to stdout."""

    format: Literal["auto", "json", "console"] = Field("auto", examples=['"json"'])
    level: Literal["debug", "info", "warning", "error", "critical"] = Field("info", examples=['"info"'])


class Settings(BaseSettings):
    """All sections; `Settings()` is the default configuration."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    ops: OpsSettings = OpsSettings()
    egress: EgressSettings = EgressSettings()
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    smtp: SmtpSettings = SmtpSettings()
    notices: NoticesSettings = NoticesSettings()
    shards: ShardsSettings = ShardsSettings()
    retention: RetentionSettings = RetentionSettings()
    outbox: OutboxSettings = OutboxSettings()
    sealing: SealingSettings = SealingSettings()
    catalog: CatalogSettings = CatalogSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature, and below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load` has read, which knows where each value comes from, and nothing behind its back."""
        return (init_settings,)


_MODELS: Mapping[str, type[Section]] = MappingProxyType(
    {name: type(section) for name, section in Settings() if isinstance(section, Section)}
)

_VARIABLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        f"{PREFIX}{section}__{key}".upper(): (section, key)
        for section, model in _MODELS.items()
        for key in model.model_fields
    }
)

_INJECTED = re.compile(r"DISPATCHER_(.+_)?(SERVICE_(HOST|PORT)(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)")
"""Kubernetes adds these to every pod when a Service is called `dispatcher` or `dispatcher-…`: nobody's mistake."""


@dataclass(slots=True)
class _Given:
    """What was found so far: values and where each comes from, and what is wrong with the names."""

    values: dict[str, dict[str, object]] = field(default_factory=lambda: {section: {} for section in _MODELS})
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, section: str, key: str, value: object, *, origin: str) -> None:
        """Let a value override what was there; an empty text stands for null where null is possible."""
        optional = NoneType in get_args(_MODELS[section].model_fields[key].annotation)
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
    for section, model in _MODELS.items():
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
        model = _MODELS.get(section)
        if not isinstance(table, dict):
            given.problems.append(f"{path}: `{section}` stands outside any section. {_belongs(section)}")
        elif model is None:
            hint = _near(section, _MODELS) or f"The sections are {_listed(_MODELS)}."
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
    homes = [f"[{section}]" for section, model in _MODELS.items() if key in model.model_fields]
    return f"There is one in {' and '.join(homes)}." if homes else otherwise


def _wrong_value(section: str, detail: ErrorDetails, origins: Mapping[tuple[str, str], str]) -> str:
    """Turn what pydantic found into a sentence that says where, what and how else."""
    key = str(detail["loc"][0])
    origin = origins[section, key]
    info = _MODELS[section].model_fields[key]
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


SECRETS = frozenset({("database", "url"), ("smtp", "password"), ("sealing", "keys")})
"""Never shown, not even when they are wrong."""


def host_port(listen: str) -> tuple[str, int]:
    """Split a `listen` setting; an IPv6 address loses its brackets."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def summary(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings for the start-up log: durations as written, secrets as true or false, no password."""
    shown: dict[str, dict[str, Any]] = {}
    for section, model in _MODELS.items():
        values = getattr(settings, section)
        shown[section] = {key: _shown((section, key), getattr(values, key)) for key in model.model_fields}
    return shown


def _shown(place: tuple[str, str], value: Any) -> Any:
    if place == ("database", "url"):
        return None if value is None else _without_password(value.get_secret_value())
    if place in SECRETS:
        return bool(value)
    if place == ("retry", "schedule"):
        return [format_duration(delay) for delay in value]
    if isinstance(value, tuple):
        return [str(one) for one in value]
    if isinstance(value, float) and place not in {("retry", "jitter"), ("api", "rate_limit")}:
        return format_duration(value)
    return str(value) if isinstance(value, Path) else value


def _without_password(url: str) -> str:
    """Keep of a database URL what tells databases apart: user, host and path; the query can hold a password, too."""
    try:
        parts = urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:  # the pool says what is wrong with it
        return "postgresql://…"
