"""Show what was measured: a table for people, JSON for programs, a plot for both."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.plot import draw
from benchmarks.result import Case, Result

FIGURES: Final = {
    "per_second": ("deliveries/s", 0),
    "offered_per_second": ("events written/s", 0),
    "p50": ("commit to arrival, p50, ms", 1),
    "p95": ("commit to arrival, p95, ms", 1),
    "p99": ("commit to arrival, p99, ms", 1),
    "max": ("commit to arrival, longest, ms", 1),
    "commit": ("of that the commit itself, p50, ms", 1),
    "producer_late": ("producer behind its schedule at most, ms", 1),
    "first_seconds": ("from the start of the service to the first arrival, s", 2),
    "dispatcher_cpu": ("dispatcher CPU, µs a delivery", 1),
    "postgres_cpu": ("Postgres CPU, µs a delivery", 1),
    "receiver_cpu": ("receiver CPU, µs a delivery", 1),
    "producer_cpu": ("producer CPU, µs a delivery", 1),
    "wal_bytes": ("WAL, bytes a delivery", 0),
    "transactions": ("transactions a delivery", 4),
    "statements": ("statements a delivery", 4),
    "results_per_record": ("results a recording transaction", 1),
    "log_bytes": ("log, bytes a delivery", 0),
    "memory": ("largest worker's memory, MB", 0),
    "files": ("file descriptors", 0),
    "dead_tuples": ("dead tuples of hot tables", 0),
    "bare_per_second": ("bare loop: posts/s", 0),
    "bare_cpu": ("bare loop: CPU, µs a post", 1),
    "ratio": ("ratio of deliveries to bare posts, per CPU second", 3),
}
"""Name of a figure → heading, digits after the point; in the order of the table."""

WIDTH: Final = 130
"""Characters of a line, where it is not a terminal that shows it."""


def write(result: Result, *, json: Path | None, plot: Path | None) -> None:
    """Print the table; write the figures as JSON where they are wanted (`-`: to stdout, instead of the table), and the plot."""
    document = orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if plot is not None and result.charts:
        plot.write_text(draw(result.charts))
    if json is not None and str(json) == "-":
        sys.stdout.buffer.write(document)
        return
    if json is not None:
        json.write_bytes(document)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table(result), *_remarks(result), sep="\n")


def table(result: Result) -> Table:
    """Make the table: for each case the median of its runs, with the lowest and the highest."""
    shown = Table(title=result.title, title_justify="left")
    shown.add_column(_runs(result.cases))
    for case in result.cases:
        shown.add_column(case.name, justify="right")
    for figure, (heading, digits) in FIGURES.items():
        if any(case.values(figure) for case in result.cases):
            shown.add_row(heading, *(_cell(case.values(figure), digits) for case in result.cases))
    return shown


def _runs(cases: Sequence[Case]) -> str:
    runs = max(len(case.runs) for case in cases)
    return "one run" if runs == 1 else f"median of {runs} runs (lowest to highest)"


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle = Case(name="", runs=tuple({"it": value} for value in values)).median("it")
    span = f" ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if len(values) > 1 else ""
    return f"{middle:,.{digits}f}{span}"


def _remarks(result: Result) -> list[str]:
    """Say what the figures were measured on, what was checked, and what was wished for."""
    machine, checked = result.machine, result.checked
    return [
        f"{result.postgres}; Python {machine['python']}; {machine['cpus']} CPUs, {machine['cpu']}; {machine['system']}",
        f"load {result.load[0]} at the start, {result.load[1]} at the end; {result.at:%Y-%m-%d %H:%M} UTC",
        *result.remarks,
        f"{checked.delivered} delivered, {checked.lost} lost, {checked.duplicates} doubled, {checked.verified} signatures good",
        *(f"{'holds' if wish.holds else 'MISSED'}: {wish.what}: {_short(wish.figure)}" for wish in result.wishes),
    ]


def _short(figure: float) -> str:
    """Write three digits, or all before the point."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
