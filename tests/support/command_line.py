"""Call the command line: in this process where that will do, as a process of its own where it matters."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from dispatcher.cli import app


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call ended with."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command line with a configuration in its environment."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None) -> Answer:
        """Call it in this process; a fault of ours is raised as it is."""
        # the tests' own DISPATCHER_… variables must not leak in: None removes them
        cleared = {name: None for name in os.environ if name.startswith("DISPATCHER_")}
        result = CliRunner().invoke(app, list(arguments), env=cleared | dict(self.environment), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def process(self, *arguments: str, stdin: str | None = None, cwd: Path | None = None) -> Answer:
        """Call it as people do."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher", *arguments],
            env=inherited | dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            timeout=60,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


def command_line(database: str | None = None, **environment: str) -> CommandLine:
    """Return the command line for a database, with further variables, `EGRESS__HTTPS_ONLY="false"`."""
    variables = {f"DISPATCHER_{name}": value for name, value in environment.items()}
    if database is not None:
        variables["DISPATCHER_DATABASE__URL"] = database
    return CommandLine(variables)
