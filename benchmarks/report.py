"""Show what was measured: a table for people, JSON for programs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.throughput import Result, Run, bare_in_flight

ROWS: Final = (
    ("deliveries_per_second", "deliveries/s", 0),
    ("dispatcher_cpu", "dispatcher CPU, µs a delivery", 1),
    ("postgres_cpu", "Postgres CPU, µs a delivery", 1),
    ("wal_bytes", "WAL, bytes a delivery", 0),
    ("transactions", "transactions a delivery", 4),
    ("statements", "statements a delivery", 4),
    ("results_per_record", "results a recording transaction", 1),
    ("log_bytes", "log, bytes a delivery", 0),
    ("bare_posts_per_second", "bare loop: posts/s", 0),
    ("bare_cpu", "bare loop: CPU, µs a post", 1),
    ("ratio", "ratio of deliveries to bare posts, per CPU second", 3),
)
"""Field, heading, digits after the point."""


def write(result: Result, file: Path | None) -> None:
    """Print the table, and the figures as JSON where they are wanted (`-`: on stdout instead of the table)."""
    document = orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if file is not None and str(file) == "-":
        sys.stdout.buffer.write(document)
        return
    if file is not None:
        file.write_bytes(document)
    Console().print(table(result), *_remarks(result), sep="\n")


def table(result: Result) -> Table:
    """Make the table: median, lowest and highest of all runs."""
    options = result.options
    load = "a backlog" if options.rate is None else f"a stream of {options.rate} events/s"
    shown = Table(
        title=f"{options.events} events, {load}, {options.endpoints} endpoints, {options.size} bytes",
        title_justify="left",
    )
    shown.add_column(f"{len(result.runs)} runs")
    for name in ("median", "lowest", "highest"):
        shown.add_column(name, justify="right")
    for field, heading, digits in ROWS:
        values = _values(result.runs, field)
        if values:
            shown.add_row(heading, *(f"{value:.{digits}f}" for value in (median(values), min(values), max(values))))
    return shown


def _values(runs: Sequence[Run], field: str) -> list[float]:
    """List a figure of all runs; empty where it could not be measured."""
    values: list[Any] = [getattr(run, field) for run in runs]
    return [] if None in values else values


def _remarks(result: Result) -> list[str]:
    """Say what the figures were measured on, and what was checked."""
    machine, options = result.machine, result.options
    delivered, verified = sum(run.delivered for run in result.runs), sum(run.verified for run in result.runs)
    missing = [heading for field, heading, _ in ROWS if not _values(result.runs, field)]
    remarks = [
        f"{result.postgres}; Python {machine['python']}; {machine['cpus']} CPUs, {machine['cpu']}; {machine['system']}",
        f"load {machine['load']} at the start; {result.at:%Y-%m-%d %H:%M} UTC",
        f"{bare_in_flight(options)} requests in flight at most, of the service and of the bare loop; logs as JSON to a file",
        f"{delivered} delivered, 0 lost, 0 duplicates, {verified} signatures checked",
    ]
    return remarks + [f"not measured here: {', '.join(missing)}"] * bool(missing)
