"""The command line of the benchmarks: one command per benchmark."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import report, throughput
from benchmarks.errors import BenchmarkError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Json = Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Write all figures there; - for stdout.")]
Server = Annotated[
    str,
    typer.Option(
        "--postgres",
        metavar="embedded|system|URL",
        help="The wheel's Postgres, the machine's newest, or a running one, on which a database is made and dropped.",
    ),
]


@app.callback()
def main() -> None:
    """Measure the service on this machine."""


@app.command("throughput")
def throughput_command(
    *,
    events: Annotated[
        int, typer.Option(min=1, max=2_000_000, help="Events a run; each goes to one endpoint.")
    ] = 20_000,
    endpoints: Annotated[int, typer.Option(min=1, max=10_000, help="Endpoints, each of a tenant of its own.")] = 10,
    size: Annotated[int, typer.Option(min=50, max=1_000_000, help="Bytes of a body.")] = 1000,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Runs; the table shows medians.")] = 3,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Requests at once, of both; default: the service's own.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Insert so many events a second, instead of all before the start.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a run may take.")] = 180.0,
    json: Json = None,
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
        deadline=deadline,
        postgres=postgres,
    )
    try:
        result = asyncio.run(throughput.run(options))
    except BenchmarkError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise typer.Exit(1) from None
    report.write(result, json)


@app.command("envelopes")
def envelopes_command() -> None:
    """Tell what bodies, filters and signatures cost in Python, per event of 500 bytes."""
    from benchmarks import envelopes

    for cost in envelopes.run():
        typer.echo(f"{cost.microseconds:8.1f} us  {cost.what}")


if __name__ == "__main__":
    app()
