"""The command line of the benchmarks: one command per benchmark."""

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import backlog, isolation, latency, report, scale, soak, sparse, throughput
from benchmarks.errors import BenchmarkError
from benchmarks.result import Result

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Json = Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Write all figures there; - for stdout.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="PATH", help="Draw them there, as SVG.")]
Server = Annotated[
    str,
    typer.Option(
        "--postgres",
        metavar="embedded|system|URL",
        help="The wheel's Postgres, the machine's newest, or a running one, on which a database is made and dropped.",
    ),
]
Events = Annotated[int, typer.Option(min=1, max=2_000_000, help="Events a run; each goes to one endpoint.")]
Endpoints = Annotated[int, typer.Option(min=1, max=10_000, help="Endpoints, each of a tenant of its own.")]
Size = Annotated[int, typer.Option(min=50, max=1_000_000, help="Bytes of a body.")]
Runs = Annotated[int, typer.Option(min=1, max=100, help="Runs; the table shows medians.")]
Quick = Annotated[bool, typer.Option("--quick", help="Sizes that take about a minute, whatever else is asked for.")]
Deadline = Annotated[float, typer.Option(help="Seconds that one part of a run may take.")]


@app.callback()
def main() -> None:
    """Measure the service on this machine."""


def show(benchmark: Coroutine[Any, Any, Result], *, json: Path | None, plot: Path | None) -> None:
    """Run a benchmark and show its result; ends with a message if it fails."""
    try:
        result = asyncio.run(benchmark)
    except BenchmarkError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise typer.Exit(1) from None
    report.write(result, json=json, plot=plot or Path(f"{result.benchmark}.svg"))


@app.command("throughput")
def throughput_command(
    *,
    events: Events = 20_000,
    endpoints: Endpoints = 10,
    size: Size = 1000,
    runs: Runs = 3,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Requests at once, of both; default: the service's own.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Insert so many events a second, instead of all before the start.")
    ] = None,
    https: Annotated[bool, typer.Option("--https", help="Speak TLS to the receiver, both.")] = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Deliver a backlog, or a steady stream with --rate, and compare with a bare aiohttp client loop."""
    options = throughput.Options(
        events=events,
        endpoints=endpoints,
        size=size,
        runs=runs,
        in_flight=in_flight,
        rate=rate,
        https=https,
        deadline=deadline,
        postgres=postgres,
    )
    show(throughput.run(options), json=json, plot=plot)


@app.command("latency")
def latency_command(
    *,
    rate: Annotated[
        list[int] | None,
        typer.Option(
            "--rate", min=1, help="Events a second, repeatable; default: shares of the full rate, found first."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each run.")] = 20.0,
    endpoints: Endpoints = 10,
    size: Size = 1000,
    runs: Runs = 5,
    full: Annotated[int, typer.Option(min=1, help="Events by which the full rate is found.")] = 20_000,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Write events at fixed rates, and tell how long each waits from its commit to its arrival."""
    options = latency.Options(
        rates=tuple(rate or ()),
        seconds=seconds,
        endpoints=endpoints,
        size=size,
        runs=runs,
        full=full,
        deadline=deadline,
        postgres=postgres,
    )
    if quick:
        options = replace(options, seconds=5.0, runs=2, full=5000)
    show(latency.run(options), json=json, plot=plot)


@app.command("isolation")
def isolation_command(
    *,
    good: Annotated[int, typer.Option(min=1, max=1000, help="Endpoints that answer at once.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Events a second for all of them together.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each stream.")] = 20.0,
    waiting: Annotated[int, typer.Option(min=0, help="Deliveries that wait for the one with a backlog.")] = 1_000_000,
    pace: Annotated[float, typer.Option(min=0, help="Seconds that this one takes for an answer.")] = 0.1,
    size: Size = 1000,
    runs: Runs = 5,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Tell what good endpoints feel of one that hangs, one that drips, one that refuses and one with a backlog."""
    options = isolation.Options(
        good=good,
        rate=rate,
        seconds=seconds,
        waiting=waiting,
        pace=pace,
        size=size,
        runs=runs,
        deadline=deadline,
        postgres=postgres,
    )
    if quick:
        options = replace(options, seconds=5.0, waiting=100_000, runs=2)
    show(isolation.run(options), json=json, plot=plot)


@app.command("backlog")
def backlog_command(
    *,
    pending: Annotated[
        list[int] | None,
        typer.Option(
            "--pending", min=1, help="Deliveries that wait, repeatable; default: 1 thousand, 1 and 10 million."
        ),
    ] = None,
    events: Events = 10_000,
    endpoints: Endpoints = 10,
    size: Size = 300,
    runs: Runs = 5,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Deliver with a thousand, a million and ten million waiting: 10 million take 10 GB of disk and some minutes to make."""
    options = backlog.Options(
        pending=tuple(pending or backlog.SIZES),
        events=events,
        endpoints=endpoints,
        size=size,
        runs=runs,
        deadline=deadline,
        postgres=postgres,
    )
    if quick:
        options = replace(options, pending=(1000, 100_000), events=5000, runs=2)
    show(backlog.run(options), json=json, plot=plot)


@app.command("scale")
def scale_command(
    *,
    workers: Annotated[
        list[int] | None, typer.Option("--workers", min=1, help="Worker processes, repeatable; default: 1, 2 and 4.")
    ] = None,
    events: Events = 20_000,
    endpoints: Endpoints = 64,
    size: Size = 1000,
    runs: Runs = 5,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Deliver the same backlogs with one, two and four workers."""
    options = scale.Options(
        workers=tuple(workers or (1, 2, 4)),
        events=events,
        endpoints=endpoints,
        size=size,
        runs=runs,
        deadline=deadline,
        postgres=postgres,
    )
    if quick:
        options = replace(options, workers=(1, 2), events=5000, runs=1)
    show(scale.run(options), json=json, plot=plot)


@app.command("soak")
def soak_command(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="In all; for half of them a transaction is held open.")] = 600.0,
    pending: Annotated[int, typer.Option(min=1, help="Deliveries that wait at any time.")] = 5000,
    rate: Annotated[int | None, typer.Option(min=1, help="Events a second; default: as many as are delivered.")] = None,
    endpoints: Endpoints = 10,
    size: Size = 300,
    bare: Annotated[int, typer.Option(min=1, help="Posts of the bare loop, before and after.")] = 5000,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Deliver at full rate for ten minutes, and look whether rate, memory, files and dead tuples stay as they are."""
    options = soak.Options(
        seconds=seconds,
        pending=pending,
        rate=rate,
        endpoints=endpoints,
        size=size,
        bare=bare,
        deadline=deadline,
        postgres=postgres,
    )
    if quick:
        options = replace(options, seconds=60.0)
    show(soak.run(options), json=json, plot=plot)


@app.command("sparse")
def sparse_command(
    *,
    endpoints: Endpoints = 10_000,
    hosts: Annotated[
        int, typer.Option(min=1, max=50_000, help="Addresses that they are spread over, of 127.0.0.0/8; Linux only.")
    ] = 5000,
    size: Size = 1000,
    runs: Runs = 5,
    quick: Quick = False,
    deadline: Deadline = 180.0,
    json: Json = None,
    plot: Plot = None,
    postgres: Server = "embedded",
) -> None:
    """Deliver one event to each of 10,000 endpoints, with a service that has just begun."""
    options = sparse.Options(
        endpoints=endpoints, hosts=hosts, size=size, runs=runs, deadline=deadline, postgres=postgres
    )
    if quick:
        options = replace(options, endpoints=2000, hosts=1000, runs=1)
    show(sparse.run(options), json=json, plot=plot)


@app.command("envelopes")
def envelopes_command() -> None:
    """Tell what bodies, filters and signatures cost in Python, per event of 500 bytes."""
    from benchmarks import envelopes

    for cost in envelopes.run():
        typer.echo(f"{cost.microseconds:8.1f} us  {cost.what}")


if __name__ == "__main__":
    app()
