"""`dispatcher format`: payload formats."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.run import Call, command, group
from dispatcher.errors import InvalidInput

if TYPE_CHECKING:
    from dispatcher.formats.definition import Definition

app = group("Check, put in, list and drop payload formats: how events become bodies.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json file with one definition.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name and version, like vsee/2.0.")]


@command(app, "check")
def check(call: Call, file: File) -> None:
    """Check a definition, and show it; needs no database."""
    from dispatcher.formats.definition import written

    call.show({"name": (definition := _read(file)).full_name, "definition": written(definition)})


@command(app, "put")
def put(
    call: Call,
    file: File,
    *,
    replacing: Annotated[
        bool, typer.Option("--replacing", help="Change it under the webhooks that are pinned to it.")
    ] = False,
) -> None:
    """Put a payload format in; every worker uses it at once.

    Where the catalogue describes bodies in this format, it is tried on the catalogue's examples first.

    Examples:
      dispatcher format put visits-3.toml
      dispatcher webhook update 0199… --payload-format visits/3
    """
    from dispatcher.admin import views

    definition = _read(file)
    call.show(views.definition_json(call.ask(lambda admin: admin.put_format(definition, replacing=replacing))))


@command(app, "list")
def list_all(call: Call) -> None:
    """List all payload formats, those that come with the service first."""
    from dispatcher.admin import views

    rows = call.ask(lambda admin: admin.list_formats())
    columns = {"name": "NAME", "webhooks": "WEBHOOKS", "deprecatedDate": "DEPRECATED", "description": "DESCRIPTION"}
    call.show_all([views.definition_json(row) for row in rows], columns, empty="")


@command(app, "show")
def show(call: Call, name: Name) -> None:
    """Show a payload format with its definition."""
    from dispatcher.admin import views

    call.show(views.definition_json(call.ask(lambda admin: admin.payload_format(name))))


@command(app, "deprecate")
def deprecate(
    call: Call,
    name: Name,
    *,
    day: Annotated[str, typer.Option("--from", metavar="DAY", help="Like 2027-01-31; empty: not deprecated.")],
) -> None:
    """Say from which day on nobody should use a payload format any more. It goes on working."""
    from dispatcher.admin import views

    try:
        deprecated = date.fromisoformat(day) if day else None
    except ValueError:
        raise InvalidInput(f"`{day}` is no day. Write it like 2027-01-31.", field="from") from None
    call.show(views.definition_json(call.ask(lambda admin: admin.deprecate_format(name, deprecated))))


@command(app, "drop")
def drop(call: Call, name: Name) -> None:
    """Forget a payload format that no webhook is pinned to."""
    call.ask(lambda admin: admin.drop_format(name))
    call.show({"name": name, "dropped": True})


def _read(file: Path) -> "Definition":
    from dispatcher.formats.definition import read

    return read(text_of(file), source=file.name)


def text_of(file: Path) -> str:
    """Read a file that somebody names; raises InvalidInput."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"{file} cannot be read: {why}.", field="file") from None
