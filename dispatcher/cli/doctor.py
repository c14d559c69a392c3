"""`dispatcher doctor`: what is wrong with this installation, and how to mend it."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import typer

from dispatcher.cli.run import Call, command, open_connection, wait_for
from dispatcher.errors import DispatcherError

if TYPE_CHECKING:
    from dispatcher.doctor import Check
    from dispatcher.settings import Settings

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "doctor")(doctor)


def doctor(call: Call) -> None:
    """Say what is wrong with this installation, and how to mend it.

    Looks at the configuration, the database, workers and backlog, and the mail server; changes nothing and sends no
    mail. Exits 1 if a check fails.
    """
    from dispatcher.doctor import Level

    checks = wait_for(_examine(call, show=lambda check: None if call.as_json else _print(call, check)))
    if call.as_json:
        call.show_all(
            [
                {"name": check.name, "level": check.level, "finding": check.finding, "mend": check.mend}
                for check in checks
            ],
            {},
            empty="",
        )
    if any(check.level is Level.FAIL for check in checks):
        raise typer.Exit(1)


async def _examine(call: Call, *, show: "Callable[[Check], None]") -> "list[Check]":
    """Make all checks, showing each as it is done: some take seconds."""
    checks = []
    async for check in _checks(call):
        show(check)
        checks.append(check)
    return checks


async def _checks(call: Call) -> "AsyncIterator[Check]":
    from dispatcher import doctor as rules

    try:
        settings = call.settings()
    except DispatcherError as error:
        yield rules.refused("configuration", error)
        return
    yield rules.ok("configuration", "usable")
    yield rules.judge_egress(settings.egress)
    async for check in _database_checks(settings):
        yield check
    yield await rules.examine_smtp(settings.smtp)


async def _database_checks(settings: "Settings") -> "AsyncIterator[Check]":
    from dispatcher import doctor as rules
    from dispatcher.clock import Clock
    from dispatcher.store.pool import describe

    database = settings.database
    where = (
        f"embedded, in {database.data_directory}" if database.url is None else describe(database.url.get_secret_value())
    )
    try:
        async with open_connection(settings) as connection:
            yield rules.ok("database", f"reachable: {where}")
            async for check in rules.examine_database(connection, sealing=settings.sealing, clock=Clock()):
                yield check
    except DispatcherError as error:
        yield rules.refused("database", error)


def _print(call: Call, check: "Check") -> None:
    call.say(f"{check.level:<4}  {check.name}: {check.finding}", style=STYLES[check.level])
    if check.mend is not None:
        call.say(f"      → {check.mend}")
