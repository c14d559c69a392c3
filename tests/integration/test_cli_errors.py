"""A user's mistake ends in one paragraph that names what is wrong and how to mend it, and in an exit code of its kind."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support.command_line import Answer, command_line

CONFIG, DATABASE, INPUT, MISSING, USAGE = 2, 3, 4, 5, 2

NOBODY = "0199a000-0000-7000-8000-00000000dead"


def check(answer: Answer, code: int, *words: str) -> None:
    """One paragraph on stderr that holds all `words`, nothing on stdout, no traceback, the expected code."""
    assert answer.code == code, answer.stdout + answer.stderr
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: ")
    assert "Traceback" not in answer.stderr
    assert "\n\n" not in answer.stderr.strip()
    missing = [word for word in words if word not in answer.stderr]
    assert missing == [], answer.stderr


def test_names_a_bad_key_of_the_configuration(tmp_path: Path) -> None:
    """A misspelt key is named with its section and file, and the right one proposed."""
    config = tmp_path / "config.toml"
    config.write_text("[egress]\nhttps_onlly = true\n")

    answer = command_line().process("check-config", "--config", str(config))

    check(answer, CONFIG, "https_onlly", "egress", "https_only", "config.toml")


@pytest.mark.parametrize(
    "variables, words",
    [
        pytest.param({"TYPO": "1"}, ("DISPATCHER_TYPO",), id="unknown name"),
        pytest.param(
            {"EGRESS__TIMEOUTT": "1s"},
            ("DISPATCHER_EGRESS__TIMEOUTT", "`DISPATCHER_EGRESS__TIMEOUT`"),
            id="unknown key",
        ),
        pytest.param({"EGRESS__TIMEOUT": "soon"}, ("DISPATCHER_EGRESS__TIMEOUT", "soon", "15s"), id="bad value"),
    ],
)
def test_names_a_bad_variable(variables: dict[str, str], words: tuple[str, ...], tmp_path: Path) -> None:
    """A variable that means nothing, or says nothing sensible, is named."""
    answer = command_line(**variables).process("check-config", cwd=tmp_path)

    check(answer, CONFIG, *words)


def test_names_a_missing_configuration_file(tmp_path: Path) -> None:
    """A file that is asked for must be there; both places of `--config` count, and the variable too."""
    missing = str(tmp_path / "nowhere.toml")

    before = command_line()("--config", missing, "check-config")
    after = command_line()("check-config", "--config", missing)
    variable = command_line(CONFIG=missing)("check-config")

    for answer in (before, after, variable):
        check(answer, CONFIG, "nowhere.toml")


def test_shows_a_good_configuration() -> None:
    """What is usable is shown with its values, passwords as yes or no, and ends with 0."""
    answer = command_line("postgresql://app:hunter2@db/clinic", EGRESS__TIMEOUT="20s")("check-config")

    assert answer.code == 0
    assert "timeout = 20s" in answer.stdout
    assert "The configuration is usable." in answer.stdout
    assert "hunter2" not in answer.stdout


def test_says_that_the_database_cannot_be_reached(unused_tcp_port: int) -> None:
    """Host, port and setting are named; the password is not."""
    url = f"postgresql://app:hunter2@127.0.0.1:{unused_tcp_port}/clinic"

    answer = command_line(url).process("tenant", "list")

    check(answer, DATABASE, f"127.0.0.1:{unused_tcp_port}", "[database] url")
    assert "hunter2" not in answer.stderr


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def newer_database(database: str) -> str:
    """A database that a later release has migrated."""
    await _execute(
        database,
        "insert into dispatcher.migrations (number, name, checksum, release) values (9999, 'add_future', 'x', '99.0.0')",
    )
    return database


@pytest.mark.parametrize("arguments", [("tenant", "list"), ("migrate",), ("migrate", "--check")], ids=" ".join)
def test_refuses_a_newer_schema(newer_database: str, arguments: tuple[str, ...]) -> None:
    """A schema from the future is touched by nobody; the release that made it is named."""
    check(command_line(newer_database)(*arguments), DATABASE, "99.0.0", "newer", "Install")


@pytest.mark.parametrize("arguments", [("tenant", "list"), ("migrate", "--check")], ids=" ".join)
def test_says_that_migrations_are_missing(empty_database: str, arguments: tuple[str, ...]) -> None:
    """An empty database is no fault, only not ready: the command that mends it is named."""
    check(command_line(empty_database)(*arguments), DATABASE, "dispatcher migrate")


def test_migrates_once(empty_database: str) -> None:
    """`migrate` applies what is missing, and the second time nothing."""
    line = command_line(empty_database)

    first, second, checked = line("migrate", "--json"), line("migrate"), line("migrate", "--check")

    assert "0001_create_tenants_and_endpoints.sql" in first.json["applied"]
    assert (second.code, second.stdout) == (0, "The schema is up to date.\n")
    assert checked.code == 0


@pytest.mark.parametrize(
    "values, constraint",
    [
        pytest.param("('', 'a.b', '{}')", "outbox_tenant_1_to_255_characters_no_control_characters", id="tenant"),
        pytest.param(
            "('acme', E'a\\nb', '{}')", "outbox_event_type_1_to_255_characters_no_control_characters", id="type"
        ),
        pytest.param("('acme', 'a.b', '{')", "invalid input syntax for type json", id="payload"),
    ],
)
async def test_refuses_a_bad_insert(transaction: Any, values: str, constraint: str) -> None:
    """A producer's bad row is refused in its own transaction, by a constraint whose name is the explanation."""
    statement = f"insert into dispatcher.outbox (tenant, event_type, payload) values {values}"

    with pytest.raises(asyncpg.PostgresError) as refusal:
        async with transaction.transaction():
            await transaction.execute(statement)

    assert constraint in str(refusal.value)


@pytest.mark.parametrize(
    "options, words",
    [
        pytest.param({"--payload": '{"a": '}, ("payload", "JSON"), id="payload"),
        pytest.param({"--payload": "@nowhere.json"}, ("nowhere.json",), id="file"),
        pytest.param({"--type": ""}, ("event type", "1 to 255"), id="type"),
        pytest.param({"--tenant": "a\nb"}, ("--tenant", "control character"), id="tenant"),
        pytest.param({"--deliver-at": "tomorrow"}, ("tomorrow", "--deliver-at", "2026-01-31T12:00:00Z"), id="instant"),
        pytest.param({"--deliver-at": "2026-01-31T12:00:00"}, ("time zone", "Z"), id="zone"),
    ],
)
def test_refuses_a_bad_event(database: str, options: dict[str, str], words: tuple[str, ...]) -> None:
    """What the outbox would refuse, or nobody can read, is refused with the field's name."""
    given = {"--tenant": "acme", "--type": "a.b", "--payload": "{}"} | options

    answer = command_line(database)("event", "send", *(part for option in given.items() for part in option))

    check(answer, INPUT, *words)


def _create(database: str, **changes: str) -> Answer:
    """Try to create a webhook that is good but for `changes`."""
    line = command_line(database)
    assert line("tenant", "create", "acme").code == 0
    given = {"tenant": "acme", "url": "https://example.com/hooks", "subscriptions": "a.b"} | changes
    options = (part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value))
    return line("webhook", "create", *options)


@pytest.mark.parametrize(
    "url, words",
    [
        pytest.param("https://user:hunter2@example.com/", ("user name or password", "header"), id="userinfo"),
        pytest.param("http://example.com/", ("http://", "https://", "[egress] https_only"), id="http"),
        pytest.param("ftp://example.com/", ("ftp://", "https://"), id="ftp"),
        pytest.param("file:///etc/passwd", ("https://",), id="file"),
        pytest.param("https://127.0.0.1/", ("127.0.0.1", "[egress] allow_subnets"), id="loopback"),
        pytest.param("example.com", ("https://",), id="no scheme"),
    ],
)
def test_refuses_a_bad_url(database: str, url: str, words: tuple[str, ...]) -> None:
    """A URL that could lead astray is refused with what is wrong, and never repeated with a password."""
    answer = _create(database, url=url)

    check(answer, INPUT, *words)
    assert "hunter2" not in answer.stderr


@pytest.mark.parametrize(
    "changes, words",
    [
        pytest.param({"subscriptions": ","}, ("subscription",), id="no subscriptions"),
        pytest.param({"notification_email": "nobody"}, ("nobody", "name@example.com"), id="e-mail"),
        pytest.param({"retry_schedule": "1s,soon"}, ("--retry-schedule: ", "soon", "5s,5m"), id="schedule"),
        pytest.param({"timeout": "-1"}, ("--timeout: ", "15s"), id="timeout"),
        pytest.param({"headers": "X-Clinic"}, ("X-Clinic", "colon"), id="header"),
        pytest.param({"headers": "webhook-id: 1"}, ("webhook-id",), id="our own header"),
        pytest.param({"metadata": "[1]"}, ("metadata", "object"), id="metadata"),
        pytest.param({"payload_format": "xml"}, ("xml", "standard", "raw"), id="payload format"),
        pytest.param({"secret": "hunter2"}, ("whsec_",), id="secret"),
    ],
)
def test_refuses_a_bad_setting(database: str, changes: dict[str, str], words: tuple[str, ...]) -> None:
    """Each bad setting of a webhook is refused with what would do; a secret is not repeated."""
    answer = _create(database, **changes)

    check(answer, INPUT, *words)
    assert "hunter2" not in answer.stderr


def test_names_an_unknown_tenant_and_who_may_be_meant(database: str) -> None:
    """A misspelt tenant is not found; the like one is proposed, and the command that registers it."""
    answer = _create(database, tenant="acmee")

    check(answer, MISSING, "acmee", "acme", "dispatcher tenant create")


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "show", "nobody"),
        ("tenant", "create", "north", "--parent", "nobody"),
        ("key", "create", "nobody"),
        ("key", "revoke", NOBODY),
        ("webhook", "show", NOBODY),
        ("webhook", "pause", NOBODY),
        ("webhook", "rotate-secret", NOBODY),
        ("webhook", "secret", NOBODY),
        ("webhook", "test", NOBODY),
        ("event", "show", NOBODY),
        ("event", "explain", NOBODY),
        ("delivery", "show", "4711"),
        ("delivery", "retry", "4711"),
        ("delivery", "cancel", "4711"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_says_that_a_thing_does_not_exist(database: str, arguments: tuple[str, ...]) -> None:
    """What is not there is named, with an exit code of its own."""
    name = next(word for word in ("nobody", NOBODY, "4711") if word in arguments)

    check(command_line(database)(*arguments), MISSING, name)


@pytest.mark.parametrize(
    "arguments, words",
    [
        pytest.param(("tenant", "crate"), "No such command", id="command"),
        pytest.param(("tenant", "create"), "Missing argument", id="argument"),
        pytest.param(("tenant", "list", "--jsn"), "No such option", id="option"),
        pytest.param(("webhook", "show", "17"), "UUID", id="id"),
        pytest.param(("delivery", "list", "--state", "failed"), "pending", id="state"),
    ],
)
def test_explains_usage(arguments: tuple[str, ...], words: str) -> None:
    """What cannot be parsed ends with 2, before anything is opened."""
    answer = command_line().process(*arguments)

    assert answer.code == USAGE
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
