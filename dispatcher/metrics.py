"""Counts what happens, for Prometheus; says it at the ops listener's `/metrics`, of one process or of all of them.

One process keeps its own numbers. Where `serve` runs several worker processes, the parent sets `PROMETHEUS_MULTIPROC_DIR`
(`MULTIPROCESS_VARIABLE`) to an empty folder before this module is imported anywhere, every process writes its numbers
there, and whoever renders adds them up. Nothing here judges or waits.
"""

import os
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from dispatcher import __version__
from dispatcher.model import (
    Answered,
    Blocked,
    DeathReason,
    DeliveryState,
    NoticeKind,
    Outcome,
    Unreachable,
    UnreachableReason,
)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client looks at it once, when it is imported."""

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `Metrics.render` returns."""

_ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
"""Seconds; a good receiver answers in tens of milliseconds, the default deadline is 15 s."""

_WAIT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds; tens of milliseconds are promised when idle, minutes tell of a backlog."""

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Results per transaction; at about 100 its cost per delivery stops falling."""


class _Gathered:
    """Observations that a histogram has not been told of yet: to observe one by one costs six times as much."""

    def __init__(self, histogram: Histogram, bounds: tuple[float, ...]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Take note of one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def pour(self) -> None:
        """Tell the histogram what `Histogram.observe` would have told it; there is no other way to add many."""
        counts, self._counts = self._counts, [0] * len(self._counts)
        total, self._sum = self._sum, 0.0
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):  # noqa: SLF001 - a test compares
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(total)  # noqa: SLF001 - as above


class _Pourer(Collector):
    """Pours what was gathered whenever somebody looks at the numbers; has none of its own."""

    def __init__(self, pour: Callable[[], None]) -> None:
        self._pour = pour

    def collect(self) -> Iterable[Metric]:
        """Pour; a registry asks in the order in which collectors were registered."""
        self._pour()
        return ()

    def describe(self) -> Iterable[Metric]:
        """Name nothing."""
        return ()


class Metrics:
    """All numbers of a process, with one method for each thing that can happen.

    What happens with every delivery is gathered first, and counted when a batch is recorded or somebody looks.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series
        self.registry = CollectorRegistry()
        self.registry.register(_Pourer(self._pour))
        self._count_attempts()
        self._count_endings()
        self._measure_work()
        self._measure_mail()

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"dispatcher_{name}", meaning, labels, registry=self.registry)

    def _sum(self, name: str, meaning: str) -> Gauge:
        """Make a gauge that adds up over the living processes."""
        return Gauge(f"dispatcher_{name}", meaning, registry=self.registry, multiprocess_mode="livesum")

    def _maximum(self, name: str, meaning: str, *labels: str) -> Gauge:
        """Make a gauge of which the largest of the living processes' values counts."""
        return Gauge(f"dispatcher_{name}", meaning, labels, registry=self.registry, multiprocess_mode="livemax")

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"dispatcher_{name}", meaning, registry=self.registry, buckets=buckets)

    def _count_attempts(self) -> None:
        attempts = self._counter("attempts_total", "HTTP requests to subscribers.", "outcome", "verdict")
        failures = ["answered_3xx", "answered_4xx", "answered_5xx", "blocked"]
        failures += [f"unreachable_{reason}" for reason in UnreachableReason]
        # found once, here: looking a child up by its labels costs more than counting
        usual = [("answered_2xx", "done"), *((kind, verdict) for kind in failures for verdict in ("retry", "give_up"))]
        self._attempts = {pair: attempts.labels(*pair) for pair in usual}
        self._unusual_attempts = attempts
        self._gathered_attempts: dict[tuple[str, str], int] = {}
        self._attempt_seconds = _Gathered(
            self._histogram(
                "attempt_seconds",
                "How long an attempt took, from its start to the end of its answer.",
                _ATTEMPT_BUCKETS,
            ),
            _ATTEMPT_BUCKETS,
        )
        self._commit_to_first_attempt = _Gathered(
            self._histogram(
                "commit_to_first_attempt_seconds",
                "From the insert of an event, or from when it was to be delivered, to the first attempt of a delivery.",
                _WAIT_BUCKETS,
            ),
            _WAIT_BUCKETS,
        )

    def _count_endings(self) -> None:
        self._finished = self._counter("deliveries_finished_total", "Deliveries that ended.", "state", "reason")
        self._delivered = self._finished.labels(DeliveryState.DELIVERED, "")
        for reason in DeathReason:
            self._finished.labels(DeliveryState.DEAD, reason)
        fanned_out = self._counter("events_fanned_out_total", "Events read from the outbox.", "matched")
        self._matched, self._unmatched = fanned_out.labels("true"), fanned_out.labels("false")
        self._replayed = self._counter(
            "replayed_deliveries_total", "Finished deliveries that replays came to, by what became of them.", "fate"
        )
        self._unexpected = self._counter(
            "events_unexpected_total", "Events that the catalogue spoke against when they were read.", "result"
        )
        for result in ("refused", "delivered"):
            self._unexpected.labels(result)
        self._filtered = self._counter(
            "events_filtered_total", "Times that an endpoint's filter did not say yes to an event.", "result"
        )
        for result in ("held", "failed"):
            self._filtered.labels(result)
        self._filter_seconds = self._counter("filter_seconds_total", "Time that filters took.")
        self._overtaken = self._counter(
            "overtaken_rows_total",
            "Rows that only a sweep found: committed behind the place that was read to.",
            "table",
        )
        for table in ("outbox", "deliveries"):
            self._overtaken.labels(table)
        self._record_batch_size = self._histogram(
            "record_batch_size", "Results written in one transaction.", _BATCH_BUCKETS
        )

    def _measure_work(self) -> None:
        self._due = self._sum(
            "deliveries_due", "Deliveries that are due, those left out whose endpoint is paused, or asked for a pause."
        )
        self._oldest_due_age = self._maximum(
            "oldest_due_age_seconds", "For how long the oldest of them has been due whose endpoint does not fail."
        )
        self._in_flight = self._sum("in_flight", "Requests under way.")
        self._held = self._sum("held", "Deliveries held in memory.")
        self._lanes = self._sum("lanes", "Endpoints with work in memory.")
        self._sealed = self._sum(
            "endpoints_sealed", "Endpoints with work whose secrets no configured main key opens, so that it waits."
        )
        self._shards_owned = self._sum("shards_owned", "Shards owned, of 256 in all.")
        self._lease_losses = self._counter("lease_losses_total", "Shards whose lease was lost, not given back.")
        self._database_up = Gauge(
            "dispatcher_database_up",
            "1 while the database can be used.",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self._database_up.set(1)
        build = self._maximum("build_info", "Always 1.", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)

    def _measure_mail(self) -> None:
        self._notices = self._counter("notices_total", "Notices written.", "kind")
        self._folded = self._counter("notices_folded_total", "Notices that were put into mails.", "kind")
        for kind in NoticeKind:
            self._notices.labels(kind)
            self._folded.labels(kind)
        self._mails = self._counter("mails_total", "Tries to send a mail.", "result")
        self._oldest_unsent_mail = self._maximum(
            "oldest_unsent_mail_age_seconds", "For how long the oldest mail that is due has waited; 0 if none does."
        )

    def attempted(self, outcome: Outcome, verdict: str, seconds: float) -> None:
        """An attempt ended; `verdict` is `done`, `retry` or `give_up`."""
        pair = (outcome_kind(outcome), verdict)
        self._gathered_attempts[pair] = self._gathered_attempts.get(pair, 0) + 1
        self._attempt_seconds.observe(seconds)

    def first_attempted(self, seconds: float) -> None:
        """A delivery is tried for the first time, so long after its event was committed or became due."""
        self._commit_to_first_attempt.observe(seconds)

    def finished(self, state: DeliveryState, reason: DeathReason | None, count: int = 1) -> None:
        """Deliveries ended: delivered, dead for a reason, or cancelled."""
        if state is DeliveryState.DELIVERED:
            self._delivered.inc(count)
        else:
            self._finished.labels(state, reason or "").inc(count)

    def recorded(self, size: int) -> None:
        """So many results were written in one transaction."""
        self._record_batch_size.observe(size)
        self._pour()

    def _pour(self) -> None:
        """Count what was gathered."""
        gathered, self._gathered_attempts = self._gathered_attempts, {}
        for pair, count in gathered.items():
            (self._attempts.get(pair) or self._unusual_attempts.labels(*pair)).inc(count)
        self._attempt_seconds.pour()
        self._commit_to_first_attempt.pour()

    def fanned_out(self, *, matched: int, unmatched: int) -> None:
        """Events were read from the outbox: so many were wanted by an endpoint, so many by none."""
        self._matched.inc(matched)
        self._unmatched.inc(unmatched)

    def replayed(self, fates: Iterable[tuple[str, int]]) -> None:
        """A replay came to so many finished deliveries of each fate."""
        for fate, count in fates:
            self._replayed.labels(fate).inc(count)

    def unexpected(self, count: int, *, refused: bool) -> None:
        """The catalogue spoke against so many events; they were refused, or delivered all the same."""
        self._unexpected.labels("refused" if refused else "delivered").inc(count)

    def filtered(self, *, held: int, failed: int, seconds: float) -> None:
        """Filters were applied for so long; so often one said no, or failed."""
        self._filtered.labels("held").inc(held)
        self._filtered.labels("failed").inc(failed)
        self._filter_seconds.inc(seconds)

    def overtaken(self, table: str, count: int) -> None:
        """A sweep found rows of `outbox` or `deliveries` that had been passed over."""
        self._overtaken.labels(table).inc(count)

    def due(self, count: int, *, oldest_age: float) -> None:
        """So many deliveries are due, the oldest for so many seconds."""
        self._due.set(count)
        self._oldest_due_age.set(oldest_age)

    def load(self, *, in_flight: int, held: int, lanes: int, sealed: int) -> None:
        """This is in memory now: requests under way, deliveries, endpoints with work, and those of them that are sealed."""
        self._pour()
        self._in_flight.set(in_flight)
        self._held.set(held)
        self._lanes.set(lanes)
        self._sealed.set(sealed)

    def shards_owned(self, count: int) -> None:
        """This process owns so many shards."""
        self._shards_owned.set(count)

    def leases_lost(self, count: int) -> None:
        """So many shards went to another worker, or ran out, without being given back."""
        self._lease_losses.inc(count)

    def noticed(self, kind: str, count: int) -> None:
        """Notices of a kind were written."""
        self._notices.labels(kind).inc(count)

    def notices(self, kind: str, count: int) -> None:
        """Notices of a kind were put into a mail."""
        self._folded.labels(kind).inc(count)

    def mails(self, result: str) -> None:
        """A try to send a mail came to `result`."""
        self._mails.labels(result).inc()

    def oldest_unsent_mail(self, age: float) -> None:
        """The oldest mail that is due has waited so many seconds, 0 for none."""
        self._oldest_unsent_mail.set(age)

    def database_up(self, up: bool) -> None:  # noqa: FBT001 - handed over as a callback of one argument
        """The database came, or went."""
        self._database_up.set(up)

    def render(self) -> bytes:
        """Return all numbers as text for Prometheus: of all processes if they share a folder, else of this one."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def outcome_kind(outcome: Outcome) -> str:
    """Name an outcome as the `outcome` label does: `answered_2xx`, `unreachable_timeout`, `blocked`."""
    match outcome:
        case Answered(status=status):
            return f"answered_{min(max(status // 100, 1), 5)}xx"  # 600 and up is no class of HTTP's; it counts as 5xx
        case Unreachable(reason=reason):
            return f"unreachable_{reason}"
        case Blocked():
            return "blocked"


def prepare_folder(folder: Path) -> None:
    """Make the folder that processes share their numbers in, and forget what an earlier run left there.

    The parent sets `MULTIPROCESS_VARIABLE` to it for the processes that it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()


def process_died(pid: int) -> None:
    """Forget what a process that ended said of the present; what it counted stays."""
    if MULTIPROCESS_VARIABLE in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
