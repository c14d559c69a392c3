"""`dispatcher demo`: the whole thing, to look at."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "demo")(demo)


def demo(
    call: Call,  # noqa: ARG001 - the demo brings its own configuration
    *,
    once: Annotated[bool, typer.Option("--once", help="End when all is delivered, with a summary.")] = False,
) -> None:
    """Show the whole thing at work on this machine.

    With an embedded PostgreSQL, a sample receiver and a mail sink: real events, real requests, and a failure that ends
    in an e-mail.
    """
    from dispatcher.demo.run import run

    raise typer.Exit(run(once=once))
