"""What a benchmark reads off: processor time of processes, the database's own counts, the service's own metrics."""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

STATISTICS_DELAY: Final = 1.2
"""Seconds after which every backend has reported its counts: it does so at most once a second."""

STATEMENT: Final = re.compile(rb"dispatcher[^|]*\|LOG:  (?:execute |statement: )")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and all below it, user and system, those that have ended since included."""
    root = psutil.Process(pid)
    own = root.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in root.children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return float(total)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a Postgres server has counted."""

    wal_bytes: int
    transactions: int
    statements: int | None
    """Of the service alone, `begin` and `commit` included; null where the server's log cannot be read."""

    def since(self, before: "Counts") -> "Counts":
        """Tell what came between two readings."""
        statements = None
        if self.statements is not None and before.statements is not None:
            statements = self.statements - before.statements
        return Counts(self.wal_bytes - before.wal_bytes, self.transactions - before.transactions, statements)


async def read_counts(connection: Any, log: Path | None) -> Counts:
    """Read them; readings in a hurry miss what backends have not reported yet (`STATISTICS_DELAY`)."""
    row = await connection.fetchrow(
        "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as wal_bytes, xact_commit + xact_rollback as transactions "
        "from pg_stat_database where datname = current_database()"
    )
    return Counts(int(row["wal_bytes"]), row["transactions"], None if log is None else count_statements(log))


def count_statements(log: Path) -> int:
    """Count the statements in a server's log that anything called `dispatcher …` has run."""
    with log.open("rb") as lines:
        return sum(1 for line in lines if line.startswith(b"dispatcher") and STATEMENT.match(line))


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process and all below it hold."""

    memory: int
    """Resident bytes of the largest of them that is a worker, shared libraries included."""
    files: int
    """Open file descriptors, of all together."""


def footprint(pid: int) -> Footprint:
    """Look at a process and all below it."""
    memory = files = 0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            memory = max(memory, process.memory_info().rss)
            files += process.num_fds()
        except psutil.NoSuchProcess:
            continue
    return Footprint(memory, files)


def metric(text: str, name: str) -> float:
    """Add up all samples of one name in Prometheus' text format."""
    found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return sum(float(value) for key, _, value in found if key.partition("{")[0] == name)


def machine() -> Mapping[str, str | int | float]:
    """Describe the machine."""
    return {
        "cpus": psutil.cpu_count() or 0,
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def load() -> float:
    """Tell how busy the machine was in the last minute: processes that ran or wanted to."""
    return round(psutil.getloadavg()[0], 2)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
