"""`dispatcher profile`: signing profiles."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.format import text_of
from dispatcher.cli.run import Call, command, group

if TYPE_CHECKING:
    from dispatcher.profiles.declared import ProfileDefinition

app = group("Check, put in, list and drop signing profiles: which headers prove a request.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json file with one definition.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile's name.")]


@command(app, "check")
def check(call: Call, file: File) -> None:
    """Check a definition, and show it; needs no database."""
    from dispatcher.profiles.declared import written

    call.show({"name": (definition := _read(file)).name, "definition": written(definition)})


@command(app, "put")
def put(
    call: Call,
    file: File,
    *,
    replacing: Annotated[
        bool, typer.Option("--replacing", help="Change it under the webhooks that sign by it.")
    ] = False,
) -> None:
    """Put a signing profile in; every worker uses it at once.

    Examples:
      dispatcher profile put ours.toml
      dispatcher webhook update 0199… --signing-profiles ours
    """
    from dispatcher.admin import views

    definition = _read(file)
    call.show(views.definition_json(call.ask(lambda admin: admin.put_profile(definition, replacing=replacing))))


@command(app, "list")
def list_all(call: Call) -> None:
    """List all signing profiles, those that come with the service first."""
    from dispatcher.admin import views

    rows = call.ask(lambda admin: admin.list_profiles())
    call.show_all(
        [views.definition_json(row) for row in rows], {"name": "NAME", "description": "DESCRIPTION"}, empty=""
    )


@command(app, "show")
def show(call: Call, name: Name) -> None:
    """Show a signing profile with its definition."""
    from dispatcher.admin import views

    call.show(views.definition_json(call.ask(lambda admin: admin.signing_profile(name))))


@command(app, "drop")
def drop(call: Call, name: Name) -> None:
    """Forget a signing profile that no webhook signs by."""
    call.ask(lambda admin: admin.drop_profile(name))
    call.show({"name": name, "dropped": True})


def _read(file: Path) -> "ProfileDefinition":
    from dispatcher.profiles.declared import read

    return read(text_of(file), source=file.name)
