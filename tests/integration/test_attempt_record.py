"""The record of an attempt: what was sent, signed with which key, what came back, and what took how long."""

import asyncio
import hashlib
import json
import os
from typing import Any
from uuid import UUID

import pytest

from dispatcher.admin import views
from dispatcher.egress import HIDDEN
from dispatcher.model import DeliveryId, fingerprint
from support.admin import open_admin
from support.command_line import command_line
from support.receiver import Receiver, answer, close_silently, endless_body, hang, hang_after
from support.world import SECRET, finished, insert_event, make_endpoint, until, working


async def record(database: str, connection: Any, *, number: int = 1, event_id: UUID | None = None) -> dict[str, Any]:
    """The attempt of a number, of the one delivery or that of an event, as people see it."""
    row = await until(
        lambda: connection.fetchrow(
            "select delivery_id from dispatcher.attempts where number = $1 and (event_id = $2 or $2 is null)",
            number,
            event_id,
        )
    )
    async with open_admin(database) as admin:
        details = views.delivery_details_json(await admin.delivery(DeliveryId(row["delivery_id"])))
    attempt: dict[str, Any] = details["attempts"][number - 1]
    json.dumps(attempt)
    return attempt


async def test_the_request_is_recorded_as_it_was_sent(database: str, connection: Any) -> None:
    """First line and headers as the receiver got them, the body's size and hash, and the body itself."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook", headers={"X-Tenant": "acme"})
        await insert_event(connection, payload='{"b":1.10,  "é":1}')

        (request,) = await receiver.wait_for(1)
        attempt = await record(database, connection)

        assert attempt["requestLine"] == "POST /hook HTTP/1.1"
        assert attempt["requestHeaders"] == [list(header) for header in request.raw_headers]
        assert attempt["requestBody"] == request.body.decode()
        assert attempt["requestBodySize"] == len(request.body)
        assert attempt["requestBodySha256"] == hashlib.sha256(request.body).hexdigest()
        assert attempt["address"] == f"127.0.0.1:{receiver.port}"
        assert attempt["worker"].endswith(f":{os.getpid()}")


async def test_credentials_are_hidden(database: str, connection: Any) -> None:
    """What lets somebody in, as a header or in the query, reaches the receiver and stays out of the log."""
    async with Receiver() as receiver, working(database):
        headers = {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2", "X-Trace": "open"}
        await make_endpoint(connection, f"{receiver.url}/hook?token=hunter2", headers=headers)
        await insert_event(connection)

        (request,) = await receiver.wait_for(1)
        attempt = await record(database, connection)

        assert request.path == "/hook?token=hunter2"
        assert {name: request.headers[name.lower()] for name in headers} == headers
        shown = dict(attempt["requestHeaders"])
        assert {name: shown[name] for name in headers} == {
            "Authorization": HIDDEN,
            "X-Api-Key": HIDDEN,
            "X-Trace": "open",
        }
        assert attempt["requestLine"] == "POST /hook?… HTTP/1.1"
        row = await connection.fetchrow("select * from dispatcher.attempts")
        assert "hunter2" not in str(dict(row))
        assert SECRET not in str(dict(row))


async def test_it_tells_which_keys_signed(database: str, connection: Any) -> None:
    """One fingerprint, two while a rotated key still signs; they are those of the secrets' list, and no secret."""
    async with Receiver() as receiver, working(database), open_admin(database) as admin:
        webhook = await make_endpoint(connection, f"{receiver.url}/hook")
        first = await insert_event(connection)
        before = await record(database, connection, event_id=first)
        new = await admin.rotate_secret(webhook)  # type: ignore[arg-type]

        async def signed_by_two() -> UUID | None:
            event_id = await insert_event(connection)
            request = (await receiver.wait_for(len(receiver.received) + 1))[-1]
            return event_id if " " in request.headers["webhook-signature"] else None

        during = await record(database, connection, event_id=await until(signed_by_two))
        secrets = await admin.webhook_secrets(webhook)  # type: ignore[arg-type]

        assert before["signedWith"] == [fingerprint(SECRET)]
        assert during["signedWith"] == [fingerprint(new), fingerprint(SECRET)]
        assert [views.secret_json(secret)["fingerprint"] for secret in secrets] == during["signedWith"]


async def test_the_phases_are_timed_once_per_connection(database: str, connection: Any) -> None:
    """A new connection has them; over an open one there is nothing to look up, connect or encrypt."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook")
        first = await record(database, connection, event_id=await insert_event(connection))
        second = await record(database, connection, event_id=await insert_event(connection))

        assert first["timings"]["isReused"] is False
        assert first["timings"]["connect"] > 0
        assert first["timings"]["lookup"] == first["timings"]["tls"] == 0
        assert {key: second["timings"][key] for key in ("isReused", "lookup", "connect", "tls")} == {
            "isReused": True,
            "lookup": 0,
            "connect": 0,
            "tls": 0,
        }
        for timings in (first["timings"], second["timings"]):
            assert 0 < timings["firstByte"] <= timings["total"] + 1


async def test_a_failure_tells_how_far_it_came(database: str, connection: Any) -> None:
    """No name: not even a look-up that ended. Nobody listens: no connection. No answer: no first byte."""
    async with Receiver() as receiver:
        port = receiver.port
    async with Receiver() as receiver, working(database, retry__schedule="[]", egress__timeout="200ms"):
        receiver.on("/hang", hang)
        receiver.on("/break", hang_after(b"HTTP/1.1 200 OK\r\nContent-Le"))
        urls = {
            "dns": "http://no-such-host.invalid/hook",
            "refused": f"http://127.0.0.1:{port}/hook",
            "hang": f"{receiver.url}/hang",
            "break": f"{receiver.url}/break",
        }
        events = {}
        for event_type, url in urls.items():
            await make_endpoint(connection, url, subscriptions=[event_type])
            events[event_type] = await insert_event(connection, event_type)
        found = {name: await record(database, connection, event_id=event_id) for name, event_id in events.items()}

    reached = {
        name: [key for key in ("lookup", "connect", "tls", "firstByte") if attempt["timings"][key] is not None]
        for name, attempt in found.items()
    }
    assert reached == {
        "dns": [],
        "refused": ["lookup"],
        "hang": ["lookup", "connect", "tls"],
        "break": ["lookup", "connect", "tls", "firstByte"],
    }
    assert {name: attempt["errorClass"] for name, attempt in found.items()} == {
        "dns": "dns",
        "refused": "refused",
        "hang": "timeout",
        "break": "timeout",
    }
    for name, attempt in found.items():
        assert attempt["error"] == f"{attempt['errorClass']}: {attempt['errorDetail']}"
        assert (attempt["requestLine"] is None) == (name in {"dns", "refused"})
        assert (attempt["signedWith"] == []) == (name in {"dns", "refused"})


SIZES = [
    pytest.param(answer(200, body=b"x" * 100), (100, False, 100), id="short"),
    pytest.param(answer(204), (None, False, 0), id="empty"),
    pytest.param(answer(200, body=b"x" * 5000), (2048, True, 5000), id="cut, its length announced"),
    pytest.param(endless_body, (2048, True, None), id="endless"),
]


@pytest.mark.parametrize("behaviour, expected", SIZES)
async def test_the_answers_true_size_is_known_as_far_as_it_can_be(
    database: str, connection: Any, behaviour: Any, expected: tuple[int | None, bool, int | None]
) -> None:
    """What is stored, whether it was cut, and how large it was."""
    async with Receiver() as receiver, working(database, egress__answer_limit="2048"):
        receiver.on("/hook", behaviour)
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        attempt = await record(database, connection)

        stored = None if attempt["responseBody"] is None else len(attempt["responseBody"])
        assert (stored, attempt["responseBodyCut"], attempt["responseBodySize"]) == expected


async def test_a_body_that_cannot_be_made_anew_is_not_shown(database: str, connection: Any) -> None:
    """Its size and hash stay; another format of the endpoint since changes nothing."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook", payload_format="raw")
        await insert_event(connection, payload='{"a": 1}')
        await finished(connection)
        await connection.execute("update dispatcher.endpoints set payload_format = 'standard'")
        before = await record(database, connection)

        await connection.execute("delete from dispatcher.outbox")
        after = await record(database, connection)

        assert before["requestBody"] == '{"a": 1}'
        assert after["requestBody"] is None
        assert (after["requestBodySize"], after["requestBodySha256"]) == (8, before["requestBodySha256"])


async def test_a_blocked_attempt_has_sent_nothing(database: str, connection: Any) -> None:
    """No request, no timings; the class of the error is `blocked`."""
    async with Receiver() as receiver, working(database, egress__allow_subnets="192.0.2.0/24", retry__schedule="[]"):
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        attempt = await record(database, connection)

        assert (attempt["errorClass"], attempt["requestLine"], attempt["timings"]) == ("blocked", None, None)
        assert attempt["signedWith"] == []


async def test_a_retry_over_a_connection_that_was_closed_is_timed_as_new(database: str, connection: Any) -> None:
    """The receiver closes after an answer: the next request opens a connection, and its phases are those of that one."""
    async with Receiver() as receiver, working(database):
        receiver.on("/hook", answer(204), close_silently, answer(204))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await record(database, connection, event_id=await insert_event(connection))
        second = await record(database, connection, event_id=await insert_event(connection))

        assert (second["timings"]["isReused"], second["outcome"]) == (False, "answered")
        assert second["timings"]["connect"] > 0


async def test_people_see_it_too(database: str, connection: Any) -> None:
    """`delivery show` prints the last request, its times and the answer."""
    async with Receiver() as receiver, working(database):
        receiver.on("/hook", answer(200, body=b"thank you"))
        await make_endpoint(connection, f"{receiver.url}/hook")
        event_id = await insert_event(connection, payload='{"a": 1}')
        (delivery,) = await finished(connection)

    shown = await asyncio.to_thread(command_line(database).process, "delivery", "show", str(delivery["id"]))

    for part in (
        "POST /hook HTTP/1.1",
        f"webhook-id: {event_id}",
        '"data":{"a": 1}',
        f"signed with {fingerprint(SECRET)}",
        "first byte",
        "thank you",
    ):
        assert part in shown.stdout
