"""`dispatcher operator`: people who sign in to the console."""

import sys
from typing import Annotated

import typer

from dispatcher.cli.run import Call, command, group

app = group("Register the people who may sign in to the console.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="How the operator signs in.")]


@command(app, "create")
def create(call: Call, name: Name) -> None:
    """Register an operator. The password is asked for, or read from standard input.

    Examples:
      dispatcher operator create anna
      pwgen 20 1 | dispatcher operator create anna
    """
    from dispatcher.admin import views

    password = _password()
    call.show(views.operator_json(call.ask(lambda admin: admin.create_operator(name, password))))


@command(app, "list")
def list_all(call: Call) -> None:
    """List operators."""
    from dispatcher.admin import views

    operators = call.ask(lambda admin: admin.list_operators())
    call.show_all(
        [views.operator_json(operator) for operator in operators],
        {"name": "NAME", "createdDate": "CREATED", "passwordDate": "PASSWORD SET", "signedInDate": "LAST SIGNED IN"},
        empty="There are no operators. Register one: dispatcher operator create NAME",
    )


@command(app, "set-password")
def set_password(call: Call, name: Name) -> None:
    """Set another password, asked for or read from standard input; the operator's sessions end."""
    from dispatcher.admin import views

    password = _password()
    call.show(views.operator_json(call.ask(lambda admin: admin.set_password(name, password))))


@command(app, "remove")
def remove(call: Call, name: Name) -> None:
    """Remove an operator; their sessions end at once."""
    call.ask(lambda admin: admin.remove_operator(name))
    if call.as_json:
        call.show({"name": name, "removed": True})
    else:
        call.say(f"Removed {name}.")


def _password() -> str:
    """Ask a person twice, or take the first line that a program writes: no password belongs on a command line."""
    if sys.stdin.isatty():
        answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    return sys.stdin.readline().rstrip("\r\n")
