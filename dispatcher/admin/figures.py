"""What an overview is made of: how things stand now, series over time, endpoints at a glance, the system.

A series is some tuples of one length: `times[n]` is when step n begins (unix seconds), and the n-th value of each other
tuple belongs to it, null where nobody worked or nothing can be told: ready for a plot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dispatcher.store.endpoints import EndpointRow
from dispatcher.store.inventory import MigrationRow, ShardRow, TableRow, WorkerRow

Values = tuple[float | None, ...]
"""One value a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """How things stand. What is null is not told: to a tenant, or because no worker lives to tell it."""

    at: datetime
    endpoints: int
    """Not archived; so for the three below."""
    failing: int
    """Active, and their last attempts failed."""
    disabled: int
    paused: int
    due: int | None
    """Deliveries that are due at active endpoints; a tenant's are counted up to `MOST_DUE`."""
    oldest_due_seconds: float | None
    """For how long the oldest of them has been due; 0 if none is."""
    in_flight: int | None
    """Requests under way. Null to a tenant; so for the four below."""
    workers: int | None
    """Those that deliver, and live."""
    mails_waiting: int | None
    """Written and not accepted by the mail server yet; counted up to `MOST_MAILS`."""
    oldest_mail_seconds: float | None
    """For how long the oldest of them has waited; 0 if none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The service over time, or a tenant's part of it, which has no latencies, backlog and cancellations: all null."""

    step: int
    """Seconds."""
    times: tuple[int, ...]
    delivered: Values
    """Attempts that were answered by a 2xx, a second."""
    failed: Mapping[str, Values]
    """Other attempts, a second, by class: `FAILURES` in their order."""
    deaths: Values
    """Deliveries that died, in the step; so for cancelled ones."""
    cancelled: Values
    p50: Values
    """Milliseconds that attempts took; null where none was made."""
    p95: Values
    p99: Values
    due: Values
    """The most deliveries that were seen due."""
    oldest_due: Values
    """Seconds for which the oldest due one was seen waiting, at most."""
    in_flight: Values
    """The most requests that were seen under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All of a series together. Zeros where nobody worked."""

    delivered: int
    """Attempts that were answered by a 2xx."""
    failed: Mapping[str, int]
    """Other attempts by class: `FAILURES` in their order."""
    deaths: int
    cancelled: int | None
    """Null to a tenant."""
    p50: float | None
    """Milliseconds that attempts took; null where none was made, and to a tenant."""
    p95: float | None
    p99: float | None

    @property
    def attempts(self) -> int:
        """All attempts."""
        return self.delivered + sum(self.failed.values())

    @property
    def success(self) -> float | None:
        """Part of the attempts that were answered by a 2xx, 0 to 1; null where none was made."""
        return self.delivered / self.attempts if self.attempts else None


@dataclass(frozen=True, slots=True)
class Overview:
    """The service, or a tenant's part of it, now and over time."""

    now: Now
    series: Series
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSeries:
    """What came of an endpoint's deliveries over time: counts in each step, not rates."""

    step: int
    """Seconds, a quarter of an hour at least."""
    times: tuple[int, ...]
    delivered: tuple[int | None, ...]
    """Attempts that were answered by a 2xx."""
    failed: Mapping[str, tuple[int | None, ...]]
    """Other attempts by class: `FAILURES` in their order."""
    deaths: tuple[int | None, ...]
    """Deliveries that died."""
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointGlance:
    """An endpoint as a list shows it."""

    endpoint: EndpointRow
    """With its health."""
    ok: tuple[int, ...]
    """Attempts that were answered by a 2xx in each of the last 24 hours, the running one last."""
    failed: tuple[int, ...]
    """Other attempts in the same hours."""
    deaths: tuple[int, ...]
    pending: int
    """Deliveries that wait; counted up to `MOST_PENDING`."""
    next_attempt_at: datetime | None
    """When the next one is tried, if it is active: past, as soon as there is room; null: nothing waits."""

    @property
    def is_failing(self) -> bool:
        """Whether it is active, and its last attempts failed."""
        return self.endpoint.state == "active" and self.endpoint.health.failing_since is not None


@dataclass(frozen=True, slots=True)
class EndpointPage:
    """Some endpoints, the newest first."""

    endpoints: tuple[EndpointGlance, ...]
    hours: tuple[int, ...]
    """When each of the hours begins, unix seconds."""
    next_cursor: str | None
    """Hand it in to read on; null at the end. A page can be short and have one: a rare find is searched bit by bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Workers, shards, tables and the server."""

    workers: tuple[WorkerRow, ...]
    """The living ones first, then by their start."""
    shards: tuple[ShardRow, ...]
    """All 256, by number."""
    tables: tuple[TableRow, ...]
    """The largest first."""
    migrations: tuple[MigrationRow, ...]
    """In order."""
    server_version: str
    """`16.4`."""
    database: str
    database_bytes: int
    database_now: datetime
