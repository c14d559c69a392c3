"""`dispatcher catalog`, and what other commands say of the catalogue."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.catalogs import SMALL, path_of
from support.command_line import CommandLine, command_line
from support.world import insert_event, until, working


@pytest.fixture
def line(database: str) -> CommandLine:
    """The command line on a database with the tenant `acme`."""
    line = command_line(database, CATALOG__MODE="enforce")
    assert line("tenant", "create", "acme").code == 0
    return line


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A catalogue of `visit.ended` and `visit.created` as a file."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """One with a reference that leads nowhere."""
    path = tmp_path / "broken.yaml"
    path.write_text(SMALL.replace("schemas/Visit'", "schemas/Vist'"))
    return path


def test_check_counts() -> None:
    """Without a database, as people read it and as programs do."""
    line = command_line()
    files = [str(path_of("hero")), str(path_of("decoda"))]

    assert "37 event types, 3 of them deprecated" in line("catalog", "check", *files).stdout
    assert line("catalog", "check", *files, "--json").json == {"eventTypes": 37, "faults": [], "files": files}


def test_check_names_the_place(broken: Path) -> None:
    """File, pointer, what is wrong, and what may have been meant; the exit code tells, too."""
    line = command_line()

    answer = line("catalog", "check", str(broken))
    told = line("catalog", "check", str(broken), "--json")

    place = "/channels/visit.ended/messages/ended/payload"
    assert (answer.code, told.code) == (4, 4)
    assert f"Error: {broken}#{place}: `#/components/schemas/Vist` leads nowhere" in answer.stderr
    assert "Did you mean `Visit`?" in answer.stderr
    assert f'"pointer": "{place}"' in told.stdout


def test_import_list_export_render(line: CommandLine, small: Path) -> None:
    """What is imported is what all see."""
    assert "The catalogue has 2 event types now." in line("catalog", "import", str(small)).stdout

    assert [one["name"] for one in line("catalog", "list", "--json").json] == ["visit.ended", "visit.created"]
    assert "visit.over" in line("catalog", "list").stdout
    assert yaml.safe_load(line("catalog", "export").stdout) == yaml.safe_load(SMALL)
    assert line("catalog", "export", "--json").json == yaml.safe_load(SMALL)
    assert list(line("catalog", "export", "--types", "visit.over", "--json").json["channels"]) == ["visit.ended"]
    assert line("catalog", "render", "--title", "Visits & more").stdout.startswith("<!doctype html>")
    assert "Visits &amp; more" in line("catalog", "render", "--title", "Visits & more").stdout
    assert line("catalog", "import", "--none").code == 0
    assert "There is no catalogue" in line("catalog", "list").stdout


def test_exports_what_a_webhook_gets(line: CommandLine, small: Path) -> None:
    """Its subscriptions decide."""
    line("catalog", "import", str(small))
    arguments = ("--tenant", "acme", "--url", "https://example.com/", "--subscriptions", "visit.over")
    webhook = line("webhook", "create", *arguments, "--json").json

    exported = line("catalog", "export", "--webhook", webhook["id"], "--json").json

    assert webhook["subscriptions"] == ["visit.ended"]
    assert list(exported["channels"]) == ["visit.ended"]


def test_documents_need_no_import_to_be_looked_at(small: Path) -> None:
    """Files stand in for the catalogue."""
    line = command_line()

    assert "visit.ended" in line("catalog", "list", str(small)).stdout
    assert "visit.ended" in line("catalog", "render", str(small)).stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        pytest.param(("import",), "Name the documents to import, or give --none", id="nothing-to-import"),
        pytest.param(("list", "--types", "visit.endet"), "Did you mean `visit.ended`?", id="unknown-type"),
        pytest.param(("export", "--webhook", "x"), "--webhook: A webhook's id is a UUID.", id="no-webhook"),
        pytest.param(("check", "missing.yaml"), "missing.yaml: It cannot be read", id="no-file"),
    ],
)
def test_says_what_is_wrong(line: CommandLine, small: Path, arguments: tuple[str, ...], message: str) -> None:
    """In a paragraph."""
    line("catalog", "import", str(small))

    answer = line("catalog", *arguments)

    assert answer.code != 0
    assert message in answer.stderr


def test_files_of_the_configuration_are_the_catalogue(database: str, small: Path) -> None:
    """They cannot be overruled by an import; nothing is read from the database."""
    line = command_line(database, CATALOG__FILES=str(small))

    assert [one["name"] for one in line("catalog", "list", "--json").json] == ["visit.ended", "visit.created"]
    assert "would not be used" in line("catalog", "import", str(small)).stderr


@pytest.mark.parametrize("command", [("check-config",), ("serve",), ("catalog", "list")])
def test_a_broken_file_of_the_configuration_is_told_at_once(
    database: str, broken: Path, command: tuple[str, ...]
) -> None:
    """Before anything starts."""
    answer = command_line(database, CATALOG__FILES=str(broken)).process(*command)

    assert answer.code == 4
    assert f"{broken}#/channels/visit.ended/messages/ended/payload" in answer.stderr


def test_events_and_subscriptions_are_refused_with_the_option_to_blame(line: CommandLine, small: Path) -> None:
    """The person at the keyboard sees what to mend."""
    line("catalog", "import", str(small))
    event = ("event", "send", "--tenant", "acme", "--type", "visit.ended", "--payload")

    payload = line(*event, '{"id": 1}')
    webhook = line(
        "webhook", "create", "--tenant", "acme", "--url", "https://example.com/", "--subscriptions", "visit.endet"
    )

    assert '--payload: /id: The value is not of type "string".' in payload.stderr
    assert "--subscriptions: The catalogue has no event type `visit.endet`." in webhook.stderr
    assert line(*event, '{"id": "v1"}').code == 0


async def test_refused_events_are_shown_everywhere(
    line: CommandLine, database: str, connection: Any, small: Path
) -> None:
    """`list --refused`, `show` and `explain` tell of them; `readmit` lets them in again."""
    async with working(database, catalog__mode="enforce", catalog__files=str(small)):
        event_id = str(await insert_event(connection, "visit.ended", '{"id":1}'))
        await until(lambda: connection.fetchval("select count(*) = 1 from dispatcher.refused_events"))

    # in processes of their own: this one has an event loop already
    assert "/id: The value is not of type" in line.process("event", "list", "--refused", "--json").stdout
    assert '/id: The value is not of type "string".' in line.process("event", "show", event_id).stdout
    assert "It was refused when it was read" in line.process("event", "explain", event_id).stdout
    assert '"refusedDate": null' in line.process("event", "readmit", event_id, "--json").stdout
    assert "is not refused" in line.process("event", "readmit", event_id).stderr
