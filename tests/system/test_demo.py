"""`dispatcher demo`, as people run it: a process of its own, on loopback, that leaves nothing behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispatcher import postmaster

pytestmark = pytest.mark.system

LONGEST = 90
"""Seconds until a demo that hangs is killed; on an idle machine it takes six."""

INVITATION = "It runs on"


@contextmanager
def demo(*options: str, cwd: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a demo; it is ended if it does not end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher", "demo", *options],
        cwd=cwd,
        env=inherited | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(LONGEST, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()
        watchdog.cancel()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@dataclass(frozen=True, slots=True)
class Told:
    """What a demo printed, and how it ended."""

    printed: str
    complaints: str
    code: int


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Told]:
    """Two demos with `--once` at the same time; the first one among variables and files that are not meant for it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "config.toml").write_text("this is no configuration")
    with demo("--once", cwd=folder, DISPATCHER_TYPO="1") as one, demo("--once", cwd=Path("/")) as other:
        told = [(*process.communicate(), process.returncode) for process in (one, other)]
    return Told(*told[0]), Told(*told[1])


def folder_of(text: str) -> Path:
    """The folder that a demo said it works in."""
    found = re.search(r"runs in\s+(\S+/dispatcher-demo-\w+)", text)
    assert found is not None, text
    return Path(found[1])


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """All that a process prints, up to the line with `text` in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"It ended without {text!r}:\n{''.join(lines)}")


def test_two_at_once_end_well_and_leave_nothing(two: tuple[Told, Told]) -> None:
    """`--once` ends by itself with exit code 0, also beside another one; nothing of it is left."""
    one, other = two

    assert (one.code, other.code) == (0, 0), one.printed + one.complaints + other.printed + other.complaints
    assert (one.complaints, other.complaints) == ("", "")
    assert folder_of(one.printed) != folder_of(other.printed)
    assert not folder_of(one.printed).exists()
    assert not folder_of(other.printed).exists()


def test_shows_what_happens(two: tuple[Told, Told]) -> None:
    """What it shows: the inserts, each request with its verdict, the death, the mail, and the table in the end."""
    printed = two[0].printed

    assert "\x1b" not in printed
    assert "Every delivery ended as it should." in printed
    for event_type, path in [
        ("appointment.confirmed", "/hero"),
        ("patient.medical-record-updated", "/hero"),
        ("PATIENT_CREATED", "/decoda"),
        ("CALL_RECIEVED", "/decoda"),
        ("visit.ended", "/vsee"),
        ("appointment.created", "/healthie"),
        ("appointment.updated", "/healthie-archive"),
    ]:
        assert re.search(rf"\d  [0-9a-f-]{{36}}  {event_type}  {path}  verified  204  \d+ ms after commit", printed)
        assert f"'{event_type}', '{{" in printed
    assert len(re.findall(r"PAYMENT_FAILED  /decoda-payments  verified  500", printed)) == 3
    assert "permission denied for table outbox" in printed
    assert "| To: front-desk@glow-dermatology.example" in printed
    assert "| Subject: [dispatcher] 1 delivery to http://127.0.0.1:" in printed
    assert re.search(r"PAYMENT_FAILED +glow-dermatology +/decoda-payments +dead +3 +3 of 3 +0\n", printed)
    assert "67891" not in printed.split("5. An event that nobody wants")[1]


def test_its_commands_work_while_it_runs(tmp_path: Path) -> None:
    """Every command that it offers can be copied and works; what they send arrives. Ctrl-C ends it and removes all."""
    with demo(cwd=tmp_path) as process:
        printed = read_until(process, INVITATION)
        preparation, *commands = re.findall(r"^     (.*)$", printed.split("7. Where to look next")[1], re.MULTILINE)
        answers = {
            command: subprocess.run(
                ["/bin/sh", "-c", f"{preparation}; {command}"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            for command in commands
            if not command.startswith(("curl", "http"))  # not every machine has it; a page to open
        }
        called = [as_curl(command) for command in commands if command.startswith("curl")]
        process.send_signal(signal.SIGINT)
        rest, complaints = process.communicate()

    assert all(answer.returncode == 0 for answer in answers.values()), answers
    assert "dead: Given up" in next(answer.stdout for command, answer in answers.items() if "explain" in command)
    assert "PAYMENT_FAILED  /decoda-payments  verified  204  attempt 4" in rest
    assert len(re.findall("appointment.updated  /healthie  verified  204", rest)) >= 1
    assert [status for status, _ in called] == [200, 201, 200, 200]
    assert "/healthie-archive" in called[0][1]
    assert re.search("appointment.created  /healthie  verified  204", rest)
    assert readme_log_line().keys() in [line.keys() for line in attempts_in(answers)]
    assert process.returncode == 0, complaints
    assert not folder_of(printed).exists()


def as_curl(command: str) -> tuple[int, str]:
    """Make the request that a curl line makes; its status and what was answered."""
    words = shlex.split(command)[1:]
    headers, body, url = {}, None, ""
    while words:
        match words:
            case ["-H", header, *words]:
                name, _, value = header.partition(": ")
                headers[name] = value
            case ["-d", text, *words]:
                body = text.encode()
            case [word, *words] if not word.startswith("-"):
                url = word
            case [_, *words]:
                pass
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        return answer.status, answer.read().decode()


def readme_log_line() -> dict[str, Any]:
    """The line of the log that README.md shows."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    line: dict[str, Any] = json.loads(block)
    return line


def attempts_in(answers: "Mapping[str, subprocess.CompletedProcess[str]]") -> list[dict[str, Any]]:
    """The attempts in what `tail` printed of the log."""
    [log] = [answer.stdout for command, answer in answers.items() if command.startswith("tail")]
    lines = [json.loads(line) for line in log.splitlines()]
    return [line for line in lines if line["event"] == "delivery.attempted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["terminated", "terminal closed"])
def test_an_early_end_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Told to stop in the middle, it stops its database and removes its folder."""
    with demo("--once", cwd=tmp_path) as process:
        printed = read_until(process, "2. Tenants")
        process.send_signal(number)
        process.communicate()

    assert process.returncode == 130
    assert not folder_of(printed).exists()


def test_what_a_killed_demo_left_is_swept_up_by_the_next(tmp_path: Path) -> None:
    """Its database is ended and its folder removed; one that runs is left alone."""
    with demo(cwd=tmp_path) as killed, demo(cwd=tmp_path) as running:
        left, kept = (folder_of(read_until(process, "2. Tenants")) for process in (killed, running))
        killed.kill()
        killed.wait()
        cluster = left / "data" / "cluster"
        server = postmaster.read_postmaster(cluster)
        assert server is not None
        assert postmaster.serves(server.pid, cluster)

        with demo(cwd=tmp_path) as sweeping:
            read_until(sweeping, "2. Tenants")

        assert not left.exists()
        assert not psutil.pid_exists(server.pid) or psutil.Process(server.pid).status() == psutil.STATUS_ZOMBIE
        assert not Path(server.socket_directory).exists()
        assert kept.exists()
        assert running.poll() is None


def test_ends_when_nobody_reads_any_more(tmp_path: Path) -> None:
    """With its output closed, as by `| head`, it ends in order instead of running on unseen."""
    with demo(cwd=tmp_path) as process:
        printed = read_until(process, "2. Tenants")
        assert process.stdout is not None
        process.stdout.close()
        process.wait()

    assert not folder_of(printed).exists()
