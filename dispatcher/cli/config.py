"""`dispatcher check-config`: is the configuration usable?"""

import typer

from dispatcher.cli.run import Call, command


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "check-config")(check_config)


def check_config(call: Call) -> None:
    """Check the configuration and show it.

    It is read as the service would read it; secrets are shown as yes or no. Connects to nothing.
    """
    from dispatcher.cli.output import cell
    from dispatcher.settings import summary

    sections = summary(call.settings())
    if call.as_json:
        call.show(sections)
        return
    for section, values in sections.items():
        call.say(f"[{section}]")
        for key, value in values.items():
            call.say(f"  {key} = {cell(value)}")
    call.say("\nThe configuration is usable.")
