"""`dispatcher serve`: run."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "serve")(serve)


def serve(
    call: Call,
    *,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes that deliver.")] = 1,
    roles: Annotated[
        str | None, typer.Option("--roles", metavar="A,B", help="Do only this: deliver, notify, maintain, api.")
    ] = None,
) -> None:
    """Run the service.

    SIGTERM or Ctrl-C ends it: the first drains, the second forces. Without a database URL it runs its own PostgreSQL in the data directory.

    Examples:
      dispatcher serve
      dispatcher serve --workers 4 --config /etc/dispatcher/config.toml
    """
    from dispatcher.app import serve

    chosen = () if roles is None else tuple(role.strip() for role in roles.split(",") if role.strip())
    raise typer.Exit(serve(call.settings(), workers=workers, roles=chosen))
