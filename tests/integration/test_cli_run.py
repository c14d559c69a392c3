"""What all commands share: quick help, options in both places, quiet ends."""

import os
import signal
import socket
import subprocess
import sys

import pytest

import dispatcher
from dispatcher.cli import app
from dispatcher.cli.run import Call
from dispatcher.errors import DatabaseUnreachable
from support.command_line import command_line


def test_loads_nothing_heavy_for_help() -> None:
    """`--help` is there at once: what takes long to import waits for the command that needs it."""
    heavy = "{'aiohttp', 'aiosmtplib', 'asyncpg', 'cryptography', 'pydantic', 'rich', 'structlog', 'uvloop'}"
    code = f"import sys, dispatcher.cli; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_prints_its_version() -> None:
    """One line, for scripts."""
    answer = command_line()("--version")

    assert (answer.code, answer.stdout) == (0, f"dispatcher {dispatcher.__version__}\n")


def _paths() -> list[str]:
    """Every command, as words."""
    own = [str(command.name) for command in app.registered_commands]
    groups = [
        f"{group.name} {command.name}"
        for group in app.registered_groups
        for command in (group.typer_instance.registered_commands if group.typer_instance else ())
    ]
    return own + groups


@pytest.mark.parametrize("path", _paths())
def test_documents_every_command(path: str) -> None:
    """Each has a one-sentence summary, and takes `--json` and `--config` at its end."""
    answer = command_line()(*path.split(), "--help")

    summary = answer.stdout.splitlines()[2].strip()
    assert answer.code == 0
    assert summary[0].isupper()
    assert "--json" in answer.stdout
    assert "--config" in answer.stdout


def test_ends_quietly_when_interrupted() -> None:
    """Ctrl-C ends a command that waits with 130, and prints nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgresql://app@127.0.0.1:{mute.getsockname()[1]}/clinic"
        environment = dict(os.environ) | {"DISPATCHER_DATABASE__URL": url}
        command = [sys.executable, "-m", "dispatcher", "tenant", "list"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            accepted, _ = mute.accept()  # now it waits for an answer that never comes
            running.send_signal(signal.SIGINT)
            printed = running.communicate(timeout=20)
            accepted.close()

    assert (running.returncode, printed) == (130, ("", ""))


def test_tells_a_lost_connection_from_a_fault(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that goes away in the middle of a command is said to have done so."""
    monkeypatch.setenv("DISPATCHER_DATABASE__URL", database)
    call = Call(config=None, as_json=False)

    with pytest.raises(DatabaseUnreachable, match="was lost"):
        call.ask(lambda admin: admin._pool.execute("select pg_terminate_backend(pg_backend_pid())"))


def test_leaves_faults_as_they_are(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is not made to look like the user's."""
    monkeypatch.setenv("DISPATCHER_DATABASE__URL", database)
    call = Call(config=None, as_json=False)

    with pytest.raises(Exception, match="division by zero"):
        call.ask(lambda admin: admin._pool.execute("select 1 / 0"))
