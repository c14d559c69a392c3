"""Put the commands together."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from dispatcher import __version__
from dispatcher.cli import (
    catalog,
    config,
    delivery,
    demo,
    doctor,
    event,
    key,
    listen,
    migrate,
    operator,
    portal,
    preset,
    profile,
    replay,
    secret,
    serve,
    tenant,
    webhook,
)
from dispatcher.cli import format as payload_format
from dispatcher.cli.run import group

app = group(
    "Deliver events from a Postgres outbox to subscribed URLs.\n\n"
    "Start with `dispatcher demo`, or with `dispatcher serve`: without a database URL it runs its own PostgreSQL."
)

for one in (demo, serve, migrate, config, doctor, listen):
    one.register(app)
for name, noun in (
    ("tenant", tenant),
    ("key", key),
    ("webhook", webhook),
    ("event", event),
    ("delivery", delivery),
    ("replay", replay),
    ("catalog", catalog),
    ("format", payload_format),
    ("profile", profile),
    ("preset", preset),
    ("secret", secret),
    ("operator", operator),
    ("portal", portal),
):
    app.add_typer(noun.app, name=name)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it like this
    if wanted:
        typer.echo(f"dispatcher {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    config_path: Annotated[
        Path | None,
        typer.Option("--config", metavar="PATH", help="Read this config.toml (or set DISPATCHER_CONFIG)."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep the options that stand before the command for `Call`."""
    context.obj = config_path


def main() -> None:
    """Run the command line; ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal that is not UTF-8 shows `\u2192` for an arrow, and no command fails for it
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="dispatcher")
