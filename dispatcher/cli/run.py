"""Run a command: give it the options that all share, open what it asks for, and turn its failure into a paragraph.

The one place of the command line that knows how the application is put together.
"""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dispatcher.errors import DatabaseUnreachable, DispatcherError, InvalidInput

if TYPE_CHECKING:  # importing these costs a third of a second, which `--help` shall not take
    from dispatcher.admin import Admin
    from dispatcher.settings import Settings

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., None])

INTERRUPTED = 130
"""What shells report of a program that SIGINT ended: 128 + 2."""

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="PATH", help="Read this config.toml (or set DISPATCHER_CONFIG).", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, as the API writes it.")]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command line: what it shares with all others, and how it is answered."""

    config: Path | None
    as_json: bool

    def settings(self) -> "Settings":
        """Read the configuration; raises ConfigError."""
        from dispatcher.configuration import load

        return load(self.config, os.environ)

    def ask(self, question: "Callable[[Admin], Awaitable[T]]") -> T:
        """Open the database, ask one thing of the administration, and close all."""
        # an interrupted connection would be told of, beside the interrupt itself
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        return asyncio.run(self._answer(question))

    async def _answer(self, question: "Callable[[Admin], Awaitable[T]]") -> T:
        from dispatcher.app import open_admin
        from dispatcher.store.pool import is_outage

        settings = self.settings()
        try:
            async with open_admin(settings) as admin:
                return await question(admin)
        except DispatcherError:
            raise
        except Exception as error:
            if not is_outage(error):
                raise
            raise DatabaseUnreachable(
                f"The connection to the database was lost: {error}. What was asked for may be done or not: see that the "
                "database runs, look, and try again."
            ) from error

    def show(self, document: Mapping[str, Any]) -> None:
        """Answer with one thing."""
        from dispatcher.cli import output

        if self.as_json:
            output.document(document)
        else:
            output.record(document)

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line for people; only where `as_json` is off."""
        from dispatcher.cli import output

        output.line(text, style=style)

    def remark(self, text: str) -> None:
        """Print a line that belongs to no answer: on stderr, so that stdout stays one document."""
        sys.stderr.write(f"{text}\n")

    def show_all(self, documents: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str) -> None:
        """Answer with many things of one kind: as a table of `columns`, field → heading."""
        from dispatcher.cli import output

        if self.as_json:
            output.document(documents)
        else:
            output.table(documents, columns, empty=empty)


def group(text: str) -> typer.Typer:
    """Make a group of commands that looks and fails like all others."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        rich_markup_mode=None,  # `[sealing] keys` in a help text is no markup
        pretty_exceptions_enable=False,  # a fault is shown plainly, without the values of variables: some are secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(commands: typer.Typer, name: str) -> Callable[[Command], Command]:
    """Register a command that takes a `Call` first; `--json` and `--config` are added to its own options.

    Expected failures end in `Error: …` on stderr and the error's own exit code, an interrupt in silence.
    """

    def register(function: Command) -> Command:
        def run(context: typer.Context, *, config: Path | None, as_json: bool, **arguments: Any) -> None:
            call = Call(config=config or context.find_root().obj, as_json=as_json)
            try:
                function(call, **arguments)
            except DispatcherError as error:
                complain(_pointed(error, context))
                raise typer.Exit(error.exit_code) from None
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None

        parameters = _parameters(function)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        commands.command(name, help=_help(function))(run)
        return function

    return register


def _pointed(error: DispatcherError, context: typer.Context) -> str:
    """Put the option that is to blame before the message, if there is one of the field's name."""
    if not isinstance(error, InvalidInput) or error.field is None:
        return str(error)
    option = "--" + error.field.lstrip("-").replace("_", "-")
    known = any(option in parameter.opts for parameter in context.command.params)
    return f"{option}: {error}" if known and option not in str(error) else str(error)


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    """List what typer shall read from the command line: the function's own parameters, then those that all share."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        *(parameter.replace(kind=kind) for parameter in own),
        inspect.Parameter("context", kind, annotation=typer.Context),
        inspect.Parameter("config", kind, annotation=ConfigPath, default=None),
        inspect.Parameter("as_json", kind, annotation=AsJson, default=False),
    ]


def _help(function: Callable[..., None]) -> str:
    """Take the docstring; a backspace is the mark by which typer leaves the lines of the examples as they are."""
    return (inspect.getdoc(function) or "").replace("\n\nExamples:\n", "\n\n\b\nExamples:\n")


def complain(text: str) -> None:
    """Print an error as a paragraph on stderr."""
    from dispatcher.cli.output import printable

    sys.stderr.write(f"Error: {printable(text)}\n")


@asynccontextmanager
async def open_connection(settings: "Settings") -> "AsyncIterator[Any]":
    """Connect to the configured database, or to the embedded one, whatever state its schema is in."""
    from dispatcher.app import open_database
    from dispatcher.store.pool import connect

    async with open_database(settings) as url:
        # no patience: that it is away is what the person wants to know
        connection = await connect(
            url, application_name="dispatcher doctor", pgbouncer=settings.database.pgbouncer, patience=0
        )
        try:
            yield connection
        finally:
            await connection.close()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)
