"""`dispatcher doctor` against real servers: it finds what is wrong, says how to mend it, and harms nothing."""

from typing import Any

import asyncpg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from dispatcher.store import doctor as facts
from dispatcher.store.partitions import PARENTS
from support.command_line import Answer, command_line
from support.world import make_endpoint

URL = "https://example.com/hook"


def levels(answer: Answer) -> dict[str, str]:
    """The level of each check, by name; the exit code follows the worst."""
    import json

    checks = {check["name"]: check["level"] for check in json.loads(answer.stdout)}
    assert answer.code == ("fail" in checks.values()), answer.stderr
    return checks


def test_examines_everything(database: str) -> None:
    """Each check is there; on a fresh database only what was never started or configured is found."""
    checks = levels(command_line(database)("doctor", "--json"))

    assert checks == {
        "configuration": "ok",
        "egress": "ok",
        "database": "ok",
        "postgres": "ok",
        "clock": "ok",
        "long transactions": "ok",
        "prepared transactions": "ok",
        "replication slots": "ok",
        "schema": "ok",
        "rights": "ok",
        "producer role": "ok",
        "partitions": "ok",
        "default partitions": "ok",
        "workers": "fail",
        "unread events": "ok",
        "due deliveries": "ok",
        "mails": "ok",
        "sealing": "warn",
        "payload formats": "ok",
        "signing profiles": "ok",
        "smtp": "warn",
    }


def test_prints_a_line_and_a_mend(database: str) -> None:
    """People get a line for each check, and what to do below it; nothing is coloured off a terminal."""
    answer = command_line(database)("doctor")

    assert answer.code == 1
    assert "fail  workers: none is alive: nothing is delivered\n      → Start `dispatcher serve`.\n" in answer.stdout
    assert "ok    schema: up to date\n" in answer.stdout
    assert "\x1b" not in answer.stdout


def test_says_that_migrations_are_missing(empty_database: str) -> None:
    """An empty database is reachable, and lacks the schema; no further check makes noise about it."""
    answer = command_line(empty_database)("doctor")

    assert answer.code == 1
    assert "fail  schema:" in answer.stdout
    assert "dispatcher migrate" in answer.stdout
    assert "workers" not in answer.stdout


def test_goes_on_without_a_database(unused_tcp_port: int) -> None:
    """An unreachable database fails one check, and the others are still made."""
    url = f"postgresql://app:hunter2@127.0.0.1:{unused_tcp_port}/clinic"

    answer = command_line(url)("doctor")

    assert answer.code == 1
    assert f"fail  database: No connection to the database at 127.0.0.1:{unused_tcp_port}" in answer.stdout
    assert "warn  smtp:" in answer.stdout
    assert "hunter2" not in answer.stdout + answer.stderr


def test_stops_at_a_bad_configuration() -> None:
    """What cannot be read cannot be judged."""
    answer = command_line(EGRESS__HTTPS_ONLLY="true")("doctor")

    assert answer.code == 1
    assert "fail  configuration:" in answer.stdout
    assert "HTTPS_ONLLY" in answer.stdout


def test_greets_the_mail_server(database: str, unused_tcp_port: int) -> None:
    """A mail server that answers is fine, and gets no mail; one that does not is a failure."""
    controller = Controller(Sink(), hostname="127.0.0.1", port=unused_tcp_port)
    line = command_line(database, SMTP__HOST="127.0.0.1", SMTP__PORT=str(unused_tcp_port))
    controller.start()

    up = levels(line("doctor", "--json"))
    controller.stop()
    down = levels(line("doctor", "--json"))

    assert (up["smtp"], down["smtp"]) == ("ok", "fail")


async def test_sees_a_transaction_that_is_left_open(connection: Any, database: str) -> None:
    """The session that holds vacuum back is found, with its process and how long it has been at it."""
    other = await asyncpg.connect(database, server_settings={"application_name": "report"})
    await other.execute("begin isolation level repeatable read")
    await other.fetchval("select count(*) from dispatcher.tenants")

    horizon = await facts.read_horizon(connection)
    await other.close()

    assert horizon.snapshot is not None
    assert horizon.snapshot.application == "report"
    assert horizon.snapshot.state == "idle in transaction"
    assert horizon.snapshot.seconds is not None


@pytest.fixture
async def visitor(connection: Any) -> Any:
    """A role that owns nothing."""
    await connection.execute("create role doctor_visitor nologin")
    yield "doctor_visitor"
    await connection.execute("reset role; drop owned by doctor_visitor; drop role doctor_visitor")


async def test_sees_missing_rights(connection: Any, visitor: str) -> None:
    """A role without rights is told apart from one that can do all but own."""
    await connection.execute(f"grant usage on schema dispatcher to {visitor}")
    await connection.execute(f"grant select on dispatcher.tenants to {visitor}; set role {visitor}")

    rights = await facts.read_rights(connection)

    assert rights.may_use
    assert not rights.may_create
    assert {"tenants", "outbox", "deliveries"} <= set(rights.closed)
    assert set(rights.foreign_owned) == set(PARENTS)


async def test_counts_what_waits(connection: Any) -> None:
    """Unread events, rows in default partitions and partitions ahead are read from the tables."""
    await connection.execute("insert into dispatcher.outbox (tenant, event_type, payload) values ('acme', 'a.b', '{}')")
    await connection.execute(
        "insert into dispatcher.unmatched_events select dispatcher.uuid_v7(), '2001-01-01', 'acme', now()"
    )

    work = await facts.read_work(connection)

    assert work.unread.count == 1
    assert work.default_partitions == ("unmatched_events",)
    assert set(work.partition_days.values()) <= {3, 4}  # made for four days, perhaps before midnight
    assert (work.shards_owned, work.shards) == (0, 256)


async def test_sees_what_webhooks_name_and_what_is_there_of_it(connection: Any) -> None:
    """Formats and profiles of webhooks that are not archived, with what is stored and the day of deprecation."""
    await connection.execute(
        """
        insert into dispatcher.payload_formats (name, version, definition) values ('ours', '1', '{"name": "ours"}');
        insert into dispatcher.format_deprecations (format, deprecated) values ('vsee/1.0', current_date - 1);
        """
    )
    await make_endpoint(connection, URL, payload_format="ours/1", signing_profiles=["standard", "gone"])
    await make_endpoint(connection, URL, payload_format="ours/2")
    for _ in range(2):
        await make_endpoint(connection, URL, payload_format="vsee/1.0")

    work = await facts.read_work(connection)

    assert [(one.name, one.webhooks, one.definition, one.is_over) for one in work.formats] == [
        ("ours/1", 1, '{"name": "ours"}', None),
        ("ours/2", 1, None, None),
        ("vsee/1.0", 2, None, True),
    ]
    assert [(one.name, one.webhooks, one.definition) for one in work.profiles] == [
        ("gone", 1, None),
        ("standard", 4, None),
    ]
