"""Reads the configuration: `config.toml`, then `DISPATCHER_<SECTION>__<KEY>`; every mistake is a `ConfigError`.

The sections are small frozen models, handed one by one to what needs them; only `app` and the command line see the
whole. Files and variables are merged here and not by pydantic-settings, which reads the process's own environment,
passes over names it does not know, and cannot say where a wrong value came from.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo

from dispatcher import __version__
from dispatcher.errors import ConfigError, InvalidInput
from dispatcher.retry import DEFAULT_SCHEDULE, format_duration, parse_duration, parse_schedule
from dispatcher.sealing import parse_key

PREFIX = "DISPATCHER_"
FILE_VARIABLE = "DISPATCHER_CONFIG"
DEFAULT_FILE = Path("config.toml")

_INJECTED = re.compile(r"DISPATCHER(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Kubernetes adds these to every pod when a Service is called `dispatcher` or `dispatcher-…`; they are nobody's mistake."""


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str | int | float) else value


def _schedule(value: object) -> object:
    return parse_schedule(value) if isinstance(value, str | list | tuple) else value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value.strip())
    except ValueError:
        raise ValueError(f"{value!r} is not a network (address/prefix, with no bits set behind the prefix)") from None


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.strip().rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise ValueError(f"{value!r} is not an address to listen on (host:port)")
    return f"{host}:{int(port)}"


def _database_url(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("it does not start with postgresql://")
    return value


def _sealing_key(value: object) -> object:
    if isinstance(value, str):
        parse_key(value)
    return value


def _user_agent(value: object) -> object:
    if isinstance(value, str):
        value = value.replace("{version}", __version__)
        if not value.isascii() or not value.isprintable() or not value.strip():
            raise ValueError(f"{value!r} is not printable ASCII, which a header has to be")
    return value


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


def _existing_file(value: object) -> object:
    path = _path(value)
    if isinstance(path, Path) and not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    return path


Duration = Annotated[float, BeforeValidator(_duration)]
"""Seconds; written as `"15s"`, `"5m"`, `"24h"`, `"5d"`."""
Positive = Annotated[Duration, Field(gt=0)]
Schedule = Annotated[tuple[float, ...], BeforeValidator(_schedule)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Listen = Annotated[str, BeforeValidator(_listen)]
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
    data_directory: Annotated[Path, BeforeValidator(_path)] = Field(
        Path("~/.local/share/dispatcher"), examples=['"/var/lib/dispatcher"']
    )
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
    allow_subnets: tuple[Network, ...] = Field((), examples=['["10.1.0.0/16"]'])
    timeout: Positive = Field(15.0, examples=['"15s"'])
    connect_timeout: Positive = Field(5.0, examples=['"5s"'])
    user_agent: Annotated[str, BeforeValidator(_user_agent)] = Field(
        "dispatcher/{version}", examples=['"dispatcher/{version}"']
    )
    answer_limit: int = Field(16384, ge=0, le=1048576, examples=["16384"])
    """Bytes of an answer's body that are read and kept."""
    ca_file: Annotated[Path, BeforeValidator(_existing_file)] | None = Field(
        None, examples=['"/etc/dispatcher/private-ca.pem"']
    )
    """Certificates that are trusted beside the machine's own."""


class DeliverySettings(Section):
    """How much is sent at once."""

    in_flight: int = Field(512, ge=1, le=100000, examples=["512"])
    """Requests at once, per worker process."""
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

    keys: tuple[Annotated[SecretStr, BeforeValidator(_sealing_key)], ...] = Field(
        (), examples=['["2026:base64 of 32 random bytes"]']
    )
    """`id:base64`; the first one seals, all open. None: secrets are stored as they are."""


class CatalogSettings(Section):
    """Event types known beforehand."""

    files: tuple[Annotated[Path, BeforeValidator(_path)], ...] = Field((), examples=['["catalog/events.yaml"]'])
    mode: Literal["off", "warn", "enforce"] = Field("off", examples=['"off"'])


class LogSettings(Section):
    """What is written to stdout."""

    format: Literal["auto", "json", "console"] = Field("auto", examples=['"json"'])
    level: Literal["debug", "info", "warning", "error", "critical"] = Field("info", examples=['"info"'])


class Settings(BaseModel):
    """All sections; `Settings()` is the default configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

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


def load(config: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file (`config`, else `DISPATCHER_CONFIG`, else `./config.toml` if it is there) and the variables.

    Raises `ConfigError` that names every wrong key or variable, one line each, and says how to mend it.
    """
    raise NotImplementedError


def host_port(listen: str) -> tuple[str, int]:
    """Split a `listen` setting; an IPv6 address loses its brackets."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def summary(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings for the start-up log: durations as written, secrets as true or false, no password."""
    raise NotImplementedError
