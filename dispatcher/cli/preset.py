"""`dispatcher preset`: how systems that people move from set a webhook up."""

from typing import Annotated

import typer

from dispatcher.cli.run import Call, command, group

app = group("List and show presets, for `dispatcher webhook create --preset`.")


@command(app, "list")
def list_all(call: Call) -> None:
    """List all presets; needs no database."""
    from dispatcher.admin import views
    from dispatcher.presets import PRESETS

    rows = [views.preset_json(name, preset) for name, preset in PRESETS.items()]
    call.show_all(rows, {"name": "NAME", "description": "DESCRIPTION"}, empty="")


@command(app, "show")
def show(call: Call, name: Annotated[str, typer.Argument(metavar="NAME", help="The preset's name.")]) -> None:
    """Show what a preset sets, and what was chosen where its sources are silent; needs no database."""
    from dispatcher.admin import views
    from dispatcher.presets import preset

    call.show(views.preset_json(name, preset(name)))
