"""README.md and examples/ tell the truth: what they show is run, parsed, or compared with what is really there."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer
from standardwebhooks.webhooks import WebhookVerificationError
from typer.core import TyperGroup

from dispatcher.cli import app
from dispatcher.clock import Clock
from dispatcher.configuration import load
from dispatcher.model import Secret
from dispatcher.retry import DEFAULT_SCHEDULE, parse_schedule
from dispatcher.signature import Signer, new_secret

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(language, text) for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
EXAMPLES = ROOT / "examples"

ID = "0199a000-0000-7000-8000-000000000001"
BODY = b'{"type":"appointment.created","timestamp":"2026-03-02T09:30:00Z","data":{"price":1.10}}'

LONGEST = 200
"""Lines of README.md; a person in a hurry reads no more."""

APPOINTMENTS = "create table appointments (id int primary key, starts_at timestamptz)"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [text for name, text in BLOCKS if name == language]


def commands(text: str) -> Iterator[list[str]]:
    """The calls of `dispatcher` in shell lines, as arguments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "dispatcher":
            yield words[1:]


SHOWN = [
    *(call for text in blocks("sh") for call in commands(text)),
    *(call for code in re.findall(r"`(dispatcher [^`]+)`", README) for call in commands(code)),
]


def headers_of(secret: str, body: bytes) -> dict[str, str]:
    """What the service sends with a body, now."""
    now = Clock().now()
    return dict(Signer([Secret(secret, None)]).headers(ID, int(now), body, now=now))


def namespace(snippet: str) -> dict[str, Any]:
    """Run a snippet of README.md; what it defines."""
    names: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    return names


# SQL


async def test_the_sql_runs(database: str) -> None:
    """Every SQL block runs as it stands, beside a table of the application's own."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(APPOINTMENTS)
        await connection.execute("create role my_application")
        for text in blocks("sql"):
            await connection.execute(text)
        events = await connection.fetch("select tenant, event_type from dispatcher.outbox")
    finally:
        await connection.execute("drop role if exists my_application")
        await connection.close()

    assert [tuple(row) for row in events] == [("acme", "appointment.created")]


async def test_the_table_of_columns_is_whole(database: str) -> None:
    """The table names every column that a producer may set, and no other."""
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch(
            "select column_name from information_schema.column_privileges "
            "where grantee = 'dispatcher_producer' and table_schema = 'dispatcher' and table_name = 'outbox'"
        )
    finally:
        await connection.close()

    section = README.split("## Insert an event")[1].split("## ")[0]
    table = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {row[0] for row in rows} == {name for cell in table for name in re.findall(r"`(\w+)", cell)}


# shell


@pytest.mark.parametrize("call", SHOWN, ids=" ".join)
def test_every_command_exists_with_its_options(call: list[str]) -> None:
    """Each `dispatcher …` line names a command that there is, and options that it has."""
    command: Any = typer.main.get_command(app)
    words = list(call)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.commands.get(words.pop(0))
        assert found is not None, f"no command `dispatcher {' '.join(call)}`"
        command = found

    known = {name for parameter in command.params for name in parameter.opts}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [option for option in given if option not in known] == []


def test_options_named_in_the_text_exist() -> None:
    """Each `--option` in the text is an option of some command that README.md is about."""
    every: list[Any] = [typer.main.get_command(app)]
    for command in every:
        every += command.commands.values() if isinstance(command, TyperGroup) else ()
    known = {name for command in every for parameter in command.params for name in parameter.opts}

    assert {option for option in re.findall(r"`(--[a-z-]+)", README) if option not in known} == set()


def test_make_has_the_targets() -> None:
    """Each `make …` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }


# Python


def test_the_recipe_believes_what_is_signed_and_nothing_else() -> None:
    """The recipe without a library takes what is signed now, and refuses a changed byte, another key, an old one."""
    [verify] = [found for text in blocks("python") if (found := namespace(text).get("verify")) is not None]
    secret = new_secret()
    signed = headers_of(secret, BODY)
    old = Signer([Secret(secret, None)]).headers(ID, 1_700_000_000, BODY, now=0)

    assert verify(secret, signed, BODY) is True
    assert verify(secret, signed, BODY + b" ") is False
    assert verify(new_secret(), signed, BODY) is False
    assert verify(secret, old, BODY) is False
    assert verify(secret, {}, BODY) is False
    assert verify(secret, signed | {"webhook-signature": "v1,ä"}, BODY) is False


def test_the_library_believes_what_is_signed_and_nothing_else() -> None:
    """The snippet with `standardwebhooks` takes what is signed now, and refuses a changed byte."""
    [receive] = [found for text in blocks("python") if (found := namespace(text).get("receive")) is not None]
    secret = new_secret()
    signed = headers_of(secret, BODY)

    assert receive(secret, signed, BODY)["type"] == "appointment.created"
    with pytest.raises(WebhookVerificationError):
        receive(secret, signed, BODY.replace(b"1.10", b"1.11"))


def test_the_recipe_is_the_receivers() -> None:
    """README.md shows the function that examples/receiver.py runs."""
    [recipe] = [text[text.index("def verify") :] for text in blocks("python") if "def verify" in text]

    assert recipe.strip() in (EXAMPLES / "receiver.py").read_text(encoding="utf-8")


# what is said


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    """The configuration shown can be used, and so can the lines that are commented out."""
    [text] = blocks("toml")
    path = tmp_path / "config.toml"
    path.write_text(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))

    settings = load(path, {})

    assert settings.database.pgbouncer is True
    assert settings.smtp.tls == "starttls"


def test_settings_named_in_the_text_exist() -> None:
    """Each `[section] key` is a setting."""
    example = tomllib.loads((ROOT / "config.example.toml").read_text(encoding="utf-8"))

    named = re.findall(r"`\[(\w+)\] (\w+)`", README)
    assert named
    assert [(section, key) for section, key in named if key not in example.get(section, {})] == []


def test_the_default_schedule_is_the_real_one() -> None:
    """The delays in the text are the default schedule."""
    [shown] = re.findall(r"at once, then after `([^`]+)`", README)

    assert parse_schedule(shown) == DEFAULT_SCHEDULE


def test_metrics_named_in_the_text_exist() -> None:
    """Each `dispatcher_…` figure is one that the service has."""
    from dispatcher.metrics import Metrics

    rendered = Metrics().render().decode()

    named = re.findall(r"`(dispatcher_\w+)`", README.split("Health and metrics")[1])
    assert named
    assert [name for name in named if f"# TYPE {name} " not in rendered] == []


def test_links_and_paths_lead_somewhere() -> None:
    """Each relative link, and each path in CONTRIBUTING.md's table of the code, is there."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    paths = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]

    missing = [path for path in paths if not ((ROOT / path).exists() or (ROOT / "dispatcher" / path).exists())]
    assert missing == []
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_is_short() -> None:
    """It is for a person in a hurry."""
    assert len([line for line in README.splitlines() if line.strip()]) <= LONGEST


# examples


async def test_the_sql_example_runs(database: str) -> None:
    """examples/producer.sql runs as it stands."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(APPOINTMENTS)
        await connection.execute((EXAMPLES / "producer.sql").read_text(encoding="utf-8"))
        types = await connection.fetch("select event_type from dispatcher.outbox order by inserted_at, event_type")
    finally:
        await connection.close()

    assert [row[0] for row in types] == [
        "appointment.created",
        "appointment.created",
        "appointment.updated",
        "appointment.reminder",
        "invoice.sent",
        "patient.created",
        "patient.updated",
    ]


async def test_the_python_producer_runs(database: str) -> None:
    """examples/producer.py inserts its event once, though it tries twice."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(EXAMPLES / "producer.py")],
        env=os.environ | {"DATABASE_URL": database},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["The event is in the outbox.", "Skipped: it is there already."]


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """POST as the service does; the status of the answer."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_receiver_verifies_and_drops_duplicates() -> None:
    """examples/receiver.py answers 204 to what is signed, 401 to a changed byte, and handles a duplicate once."""
    secret = new_secret()
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "receiver.py"), "0"],
        env=os.environ | {"SECRET": f"{new_secret()} {secret}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[-1]
            signed = headers_of(secret, BODY)
            statuses = [post(url, signed, BODY), post(url, signed, BODY + b" "), post(url, signed, BODY)]
            handled = [process.stdout.readline(), process.stdout.readline()]
        finally:
            process.terminate()

    assert statuses == [204, 401, 204]
    assert handled == [f"{ID}  {BODY.decode()}\n", f"{ID}  seen before, dropped\n"]


def test_the_log_line_is_json() -> None:
    """The log line shown is one JSON object; that its keys are the real ones is seen in the demo's log."""
    [text] = blocks("json")

    assert json.loads(text)["event"] == "delivery.attempted"
