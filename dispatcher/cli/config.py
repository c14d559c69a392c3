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
    from dispatcher.app import open_doorkeeper
    from dispatcher.cli.output import cell
    from dispatcher.settings import summary

    settings = call.settings()
    open_doorkeeper(settings).of_files()  # what is broken in them raises
    sections = summary(settings)
    if call.as_json:
        call.show(sections)
        return
    for section, values in sections.items():
        call.say(f"[{section}]")
        for key, value in values.items():
            call.say(f"  {key} = {cell(value)}")
    call.say("\nThe configuration is usable.")
