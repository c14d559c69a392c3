"""The nouns of the command line: what they do to the database, and the documents they print."""

import asyncio
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from support.admin import attempt
from support.command_line import Answer, CommandLine, command_line

URL = "https://example.com/hooks"


@pytest.fixture
def line(database: str) -> CommandLine:
    """The command line on a database with the tenant `acme`."""
    line = command_line(database)
    assert line("tenant", "create", "acme").code == 0
    return line


def webhook(line: CommandLine, *options: str) -> Any:
    """Create a webhook; its document."""
    arguments = ("--tenant", "acme", "--url", URL, "--subscriptions", "a.b,c.*")
    return line("webhook", "create", *arguments, *options, "--json").json


def send(line: CommandLine, *options: str, payload: str = "{}") -> Answer:
    """Send an event of `acme`."""
    return line("event", "send", "--tenant", "acme", "--type", "a.b", "--payload", payload, *options, "--json")


def test_registers_tenants(line: CommandLine) -> None:
    """A tenant and its parent are shown and listed as they were registered."""
    created = line("tenant", "create", "acme-north", "--parent", "acme", "--json").json

    assert created["name"] == "acme-north"
    assert created["parent"] == "acme"
    assert created == line("tenant", "show", "acme-north", "--json").json
    assert [tenant["name"] for tenant in line("tenant", "list", "--json").json] == ["acme", "acme-north"]
    assert "acme-north" in line("tenant", "list").stdout


def test_shows_a_key_once(line: CommandLine) -> None:
    """`create` holds the key, on stdout alone; `list` never does; a revoked one says so."""
    answer = line("key", "create", "acme", "--json")
    created = answer.json

    listed = line("key", "list", "acme", "--json")
    revoked = line("key", "revoke", created["id"], "--json").json

    assert len(created["key"]) >= 32
    assert created["key"] not in listed.stdout
    assert created["key"] not in answer.stderr
    assert listed.json[0]["operator"] is False
    assert revoked["revokedDate"] is not None


def test_creates_an_operators_key(line: CommandLine) -> None:
    """`--operator` makes a key for every tenant."""
    assert line("key", "create", "acme", "--operator", "--json").json["operator"] is True


def test_creates_a_webhook_with_the_published_shape(line: CommandLine) -> None:
    """The document has exactly the seven members of the contract, nulls included."""
    created = webhook(line)

    assert list(created) == ["createdDate", "id", "notificationEmail", "secret", "subscriptions", "updatedDate", "url"]
    assert created["notificationEmail"] is None
    assert created["updatedDate"] is None
    assert created["url"] == URL
    assert created["subscriptions"] == ["a.b", "c.*"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", created["secret"])
    assert str(UUID(created["id"])) == created["id"]


def test_creates_a_webhook_with_every_option(line: CommandLine) -> None:
    """Each option arrives at the field it is named for."""
    secret = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    options = {
        "--notification-email": "ops@acme.example",
        "--additional-notification-emails": "a@acme.example, b@acme.example",
        "--description": "the booking system",
        "--payload-format": "raw",
        "--headers": "X-Clinic: north",
        "--retry-schedule": "1s,5m",
        "--timeout": "5s",
        "--rate-limit": "2.5",
        "--warn-after": "1h",
        "--disable-after": "2d",
        "--secret": secret,
        "--metadata": '{"crm": 17}',
    }

    created = webhook(line, *(part for option in options.items() for part in option))
    shown = line("webhook", "show", created["id"], "--json").json

    assert created["secret"] == secret
    assert "secret" not in shown
    assert shown["notificationEmail"] == "ops@acme.example"
    assert shown["additionalNotificationEmails"] == ["a@acme.example", "b@acme.example"]
    assert shown["description"] == "the booking system"
    assert shown["payloadFormat"] == "raw"
    assert shown["headers"] == {"X-Clinic": "north"}
    assert shown["timeoutSeconds"] == 5
    assert shown["rateLimit"] == 2.5
    assert shown["retrySchedule"] == [1, 300]
    assert shown["warnAfterSeconds"] == 3600
    assert shown["disableAfterSeconds"] == 172800
    assert shown["metadata"] == {"crm": 17}


def test_updates_and_clears(line: CommandLine) -> None:
    """What is given changes, what is cleared goes back to its default, the rest stays."""
    created = webhook(line, "--notification-email", "ops@acme.example", "--description", "old")

    line("webhook", "update", created["id"], "--url", f"{URL}/2", "--clear", "notification-email")
    shown = line("webhook", "show", created["id"], "--json").json

    assert shown["url"] == f"{URL}/2"
    assert shown["notificationEmail"] is None
    assert shown["description"] == "old"
    assert shown["subscriptions"] == ["a.b", "c.*"]
    assert shown["updatedDate"] is not None


def test_moves_a_webhook_through_its_states(line: CommandLine) -> None:
    """Each verb leads to its state."""
    created = webhook(line)

    states = [
        line("webhook", verb, created["id"], "--json").json["state"]
        for verb in ("pause", "resume", "disable", "enable")
    ]

    assert states == ["paused", "active", "disabled", "active"]


def test_archives_a_webhook(line: CommandLine) -> None:
    """A deleted webhook is listed only when asked for."""
    created = webhook(line)

    line("webhook", "delete", created["id"])

    assert line("webhook", "list", "--json").json == []
    assert [one["id"] for one in line("webhook", "list", "--include-archived", "--json").json] == [created["id"]]


def test_rotates_a_secret(line: CommandLine) -> None:
    """The new secret is shown, and signs first; the old one stays for the overlap."""
    created = webhook(line)

    rotated = line("webhook", "rotate-secret", created["id"], "--overlap", "1h", "--json").json
    shown = line("webhook", "secret", created["id"], "--json").json

    assert rotated["id"] == created["id"]
    assert rotated["secret"] != created["secret"]
    assert shown["secret"] == rotated["secret"]
    assert [one["secret"] for one in shown["secrets"]] == [rotated["secret"], created["secret"]]
    assert shown["secrets"][1]["expiresDate"] is not None


def test_sends_and_shows_an_event(line: CommandLine) -> None:
    """The id leads to the event, whose payload is shown as it was spelled."""
    payload = '{"b":1.10,"a":12345678901234567890123,"é":"\\u00e9"}'

    sent = send(line, payload=payload).json
    shown = line("event", "show", sent["id"])
    listed = line("event", "list", "--tenant", "acme", "--json").json

    assert payload in shown.stdout
    assert [event["id"] for event in listed] == [sent["id"]]
    assert listed[0]["type"] == "a.b"


def test_reads_the_payload_from_stdin_and_from_a_file(line: CommandLine, tmp_path: Path) -> None:
    """`-` and `@PATH` say where the payload is."""
    path = tmp_path / "event.json"
    path.write_text('{"from": "file"}')
    base = ("event", "send", "--tenant", "acme", "--type", "a.b", "--json", "--payload")

    piped = line(*base, "-", stdin='{"from": "stdin"}').json
    read = line(*base, f"@{path}").json

    assert '{"from": "stdin"}' in line("event", "show", piped["id"]).stdout
    assert '{"from": "file"}' in line("event", "show", read["id"]).stdout


def test_skips_a_repeated_event(line: CommandLine) -> None:
    """A key that was used makes no second event, says so, and is no failure."""
    first, second = send(line, "--idempotency-key", "k"), send(line, "--idempotency-key", "k")

    assert first.json["id"] is not None
    assert second.json == {"id": None}
    assert "Skipped" in second.stderr
    assert len(line("event", "list", "--json").json) == 1


def test_schedules_an_event(line: CommandLine) -> None:
    """A delay and an instant are both understood."""
    sent = send(line, "--deliver-at", "+10m", "--expires-at", "2999-01-01T00:00:00+02:00").json

    shown = line("event", "show", sent["id"], "--json").json
    assert shown["deliverDate"] is not None
    assert shown["expiresDate"].startswith("2998-12-31T22:00:00")


def test_explains_an_event(line: CommandLine) -> None:
    """Every endpoint of the tenant is accounted for, in words and as a document."""
    created = webhook(line)
    sent = send(line).json

    told = line("event", "explain", sent["id"])
    document = line("event", "explain", sent["id"], "--json").json

    assert created["id"] in told.stdout
    assert [one["webhookId"] for one in document["endpoints"]] == [created["id"]]
    assert document["event"]["id"] == sent["id"]


@pytest.fixture
async def delivery(line: CommandLine, connection: Any) -> Any:
    """A pending delivery, as fan-out makes it: its row."""
    await connection.execute(
        """
        with event as (
          insert into dispatcher.outbox (tenant, event_type, payload) values ('acme', 'a.b', '{}') returning *
        ), endpoint as (
          insert into dispatcher.endpoints (tenant, shard, url) values ('acme', dispatcher.shard_of('acme'), 'https://example.com/')
          returning *
        )
        insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
        select endpoint.id, event.id, event.inserted_at, now(), now() + interval '1 hour', event.shard
        from event, endpoint
        """
    )
    return await connection.fetchrow("select * from dispatcher.deliveries")


def test_lists_and_shows_deliveries(line: CommandLine, delivery: Any) -> None:
    """Filters find it by webhook, tenant and state; `show` adds the attempts."""
    filters = ("--webhook", str(delivery["endpoint_id"]), "--tenant", "acme", "--state", "pending")

    found = line("delivery", "list", *filters, "--json").json
    shown = line("delivery", "show", str(delivery["id"]), "--json").json
    table = line("delivery", "list")

    assert [one["id"] for one in found] == [delivery["id"]]
    assert line("delivery", "list", "--state", "dead", "--json").json == []
    assert shown["eventId"] == str(delivery["event_id"])
    assert shown["attempts"] == []
    assert str(delivery["endpoint_id"]) in table.stdout


@pytest.mark.parametrize("next_in", [3600.0, None], ids=["retried", "dead"])
async def test_the_list_says_what_the_last_attempt_came_to(
    line: CommandLine, connection: Any, delivery: Any, next_in: float | None
) -> None:
    """The status in words, where no error says it better; JSON has the number."""
    await attempt(connection, delivery["id"], status=503, next_in=next_in)

    table = await asyncio.to_thread(line, "delivery", "list")
    shown = await asyncio.to_thread(line, "delivery", "list", "--json")

    assert "HTTP 503 Service Unavailable" in table.stdout
    assert [(one["lastStatus"], one["lastError"]) for one in shown.json] == [(503, None)]


def test_retries_and_cancels_a_delivery(line: CommandLine, delivery: Any) -> None:
    """`retry` makes a pending one due; `cancel` ends it."""
    number = str(delivery["id"])

    retried = line("delivery", "retry", number, "--json").json
    cancelled = line("delivery", "cancel", number, "--json").json

    assert retried["state"] == "pending"
    assert cancelled["state"] == "cancelled"
    assert [one["state"] for one in line("delivery", "list", "--json").json] == ["cancelled"]


def test_tells_that_nobody_makes_the_attempt(line: CommandLine) -> None:
    """A test without a running service ends in a paragraph that says what to look at."""
    created = webhook(line)

    answer = line("webhook", "test", created["id"], "--wait", "50ms")

    assert answer.code == 1
    assert "dispatcher serve" in answer.stderr
    assert "dispatcher delivery show" in answer.stderr
