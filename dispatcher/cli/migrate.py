"""`dispatcher migrate`: bring the schema up to date."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command, wait_for


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "migrate")(migrate)


def migrate(
    call: Call,
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 3 if migrations are missing.")] = False,
) -> None:
    """Bring the database schema up to date. Any number of processes may do so at once."""
    from dispatcher.app import run_migrations

    done = wait_for(run_migrations(call.settings(), check=check))
    names = [migration.file for migration in done]
    if call.as_json:
        call.show({"applied": names})
    elif names:
        call.say("Applied " + ", ".join(names) + ".")
    else:
        call.say("The schema is up to date.")
