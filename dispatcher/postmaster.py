"""Tell from a cluster's `postmaster.pid` and the process table whether a PostgreSQL server runs on it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
"""Where Linux shows them; elsewhere the pid alone has to do."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What `postmaster.pid` says of a server, which may be gone."""

    pid: int
    port: int
    socket_directory: str
    listen_address: str
    """Empty without TCP."""


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read `postmaster.pid`: pid, directory, start time, port, socket directory, listen address, …, one a line."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    fields = [line.strip() for line in lines] + [""] * 6
    if not fields[0].isdigit() or not fields[3].isdigit():
        return None
    return Postmaster(pid=int(fields[0]), port=int(fields[3]), socket_directory=fields[4], listen_address=fields[5])


def exists(pid: int) -> bool:
    """Whether there is a process of that number, whoever's it is, and be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def serves(pid: int, cluster: Path) -> bool:
    """Whether that process is a server of that cluster: all of its processes work in the cluster's folder."""
    if not (PROCESSES / "self").exists():
        return exists(pid)
    return _works_in(pid, cluster)


def remnants(cluster: Path) -> list[int]:
    """The processes that still work on the cluster; after their first one was killed they take a moment to end."""
    return [pid for pid in _pids() if _works_in(pid, cluster)]


def _pids() -> Iterator[int]:
    if PROCESSES.exists():
        yield from (int(entry.name) for entry in PROCESSES.iterdir() if entry.name.isdigit())


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether a process has the cluster as its working directory, and is no zombie (those have none)."""
    try:
        return (PROCESSES / str(pid) / "cwd").samefile(cluster)
    except OSError:
        return False
