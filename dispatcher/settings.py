"""The configuration's sections: small frozen models, handed one by one to what needs them.

Only `app` and the command line see the whole. Reading a file and variables, and saying what is wrong with them, is left
to `configuration`.
"""

import json
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dispatcher import __version__
from dispatcher.errors import ConfigError, InvalidInput
from dispatcher.retry import DEFAULT_SCHEDULE, format_duration, parse_duration, parse_schedule
from dispatcher.sealing import parse_key

T = TypeVar("T")


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
    public_url: str | None = Field(None, pattern="^https?://[^ ]+$", examples=['"https://webhooks.example.com"'])
    """Where tenants reach this listener; links to `/portal` begin with it. Null: `http://` and `listen`."""


class OpsSettings(Section):
    """Console, metrics and health checks."""

    listen: Listen = Field("127.0.0.1:8081", examples=['"127.0.0.1:8081"'])
    console_url: str | None = Field(
        None, pattern="^https?://[^ ]+$", examples=['"https://dispatcher.internal.example"']
    )
    """Where people reach the console; mails link to it. Null: no links."""


class ConsoleSettings(Section):
    """Who may use the console."""

    session: Positive = Field(43200.0, examples=['"12h"'])
    """Seconds from signing in until one has to do so again."""
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_list)] = Field((), examples=['["127.0.0.1/32"]'])
    """Reverse proxies in front: whom `X-Forwarded-For` and the header below are believed from. Before it: it needs them."""
    trusted_header: str | None = Field(None, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", examples=['"X-Forwarded-User"'])
    """A proxy names the operator in it, and nobody signs in here; null: people sign in."""

    @field_validator("trusted_header")
    @classmethod
    def _has_proxies(cls, header: str | None, info: ValidationInfo) -> str | None:
        """Refuse a header that anybody could send, or nobody."""
        if header is not None and not info.data.get("trusted_proxies"):
            raise ValueError("it needs `trusted_proxies`: from where is it believed?")
        return header


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
    statistics: Days = Field(90, examples=["90"])


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
    console: ConsoleSettings = ConsoleSettings()
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
        """Take what `configuration.load` has read, which knows where each value comes from, and nothing behind its back."""
        return (init_settings,)


SECTIONS: Mapping[str, type[Section]] = MappingProxyType(
    {name: type(section) for name, section in Settings() if isinstance(section, Section)}
)
"""The section of each name."""

SECRETS = frozenset({("database", "url"), ("smtp", "password"), ("sealing", "keys")})
"""Never shown, not even when they are wrong."""


def host_port(listen: str) -> tuple[str, int]:
    """Split a `listen` setting; an IPv6 address loses its brackets."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def summary(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings for the start-up log: durations as written, secrets as true or false, no password."""
    shown: dict[str, dict[str, Any]] = {}
    for section, model in SECTIONS.items():
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
