"""From an insert to a signed POST: what a subscriber gets, and what follows from each answer (the verdict table)."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import standardwebhooks
import svix

from support.receiver import Behaviour, Exchange, Receiver, answer, close_silently, gzip_bomb, hang, redirect, reset
from support.steps import WAY, early_clock, instant, stepping, webhook_ids
from support.world import SECRET, finished, insert_event, insert_events, make_endpoint, make_tenant, until, working

QUICK = "50ms,50ms"
"""Three attempts within a tenth of a second."""


CLOCKS = 0.02
"""Seconds by which two readings of one machine's clock may differ, read by Postgres and by Python."""


async def attempts(connection: Any) -> list[Any]:
    """The log of attempts."""
    return list(await connection.fetch("select * from dispatcher.attempts order by delivery_id, number"))


async def test_an_insert_becomes_a_signed_post(database: str, connection: Any) -> None:
    """A committed event arrives with the Standard Webhooks headers, the event's id and a signature that verifies."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook")
        event_id = await insert_event(connection)

        (request,) = await receiver.wait_for(1)

        assert (request.method, request.path) == ("POST", "/hook")
        assert request.headers["webhook-id"] == str(event_id)
        assert request.headers["content-type"] == "application/json"
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 5
        body = standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
        assert body["data"] == {"resource_id": "67890"}
        (delivery,) = await finished(connection)
        assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("delivered", 1, 204)


async def test_a_rolled_back_insert_sends_nothing(database: str, connection: Any) -> None:
    """What is rolled back never was; what is committed after it arrives."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook")
        transaction = connection.transaction()
        await transaction.start()
        await insert_event(connection, "rolled.back")
        await transaction.rollback()
        committed = await insert_event(connection, "committed")

        await finished(connection)

        assert [request.headers["webhook-id"] for request in receiver.received] == [str(committed)]


@pytest.mark.parametrize("notify", ["true", "false"], ids=["listening", "polling"])
async def test_an_idle_service_posts_within_tens_of_milliseconds(database: str, connection: Any, notify: str) -> None:
    """The median of ten inserts into an idle service arrives soon, woken or polling."""
    async with Receiver() as receiver, working(database, database__notify=notify):
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await finished(connection, 1)
        delays = []

        for number in range(2, 12):
            started = asyncio.get_running_loop().time()
            await insert_event(connection)
            await receiver.wait_for(number)
            delays.append(asyncio.get_running_loop().time() - started)
            await finished(connection, number)

        assert sorted(delays)[len(delays) // 2] < 0.15


@pytest.mark.parametrize("payload_format", ["standard", "raw"])
async def test_the_payloads_bytes_survive(database: str, connection: Any, payload_format: str) -> None:
    """Key order, number spelling and escapes arrive as they were inserted."""
    payload = r'{"b":1.10,"a":12345678901234567890123,"é":"\u00e9"}'
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook", payload_format=payload_format)
        await insert_event(connection, payload=payload)

        (request,) = await receiver.wait_for(1)

        if payload_format == "raw":
            assert request.body == payload.encode()
        else:
            assert request.body.endswith(b'"data":' + payload.encode() + b"}")


async def test_subscriptions_match_types_and_patterns(database: str, connection: Any) -> None:
    """Exact types, `prefix.*` at any depth and `*` match; an endpoint that matches twice gets the event once."""
    async with Receiver() as receiver, working(database):
        for name, subscriptions in {
            "exact": ["visit.note.signed"],
            "prefix": ["visit.*"],
            "deeper": ["visit.note.*"],
            "all": ["*", "visit.*"],
            "other": ["visit", "visit.note", "appointment.*"],
        }.items():
            await make_endpoint(connection, f"{receiver.url}/{name}", subscriptions=subscriptions)
        await insert_event(connection, "visit.note.signed")

        await finished(connection, 4)

        assert sorted(request.path for request in receiver.received) == ["/all", "/deeper", "/exact", "/prefix"]


async def test_an_event_that_nobody_wants_is_recorded(database: str, connection: Any) -> None:
    """No endpoint, or no tenant at all: the event is kept and marked as unmatched, the producer is not bothered."""
    await make_tenant(connection, "acme")
    wanted_by_none = [await insert_event(connection), await insert_event(connection, tenant="never registered")]

    async with working(database):

        async def recorded() -> bool:
            rows = await connection.fetch("select event_id from dispatcher.unmatched_events")
            return {row["event_id"] for row in rows} == set(wanted_by_none)

        await until(recorded)

    assert await connection.fetchval("select count(*) from dispatcher.outbox") == 2
    assert await connection.fetchval("select count(*) from dispatcher.outbox_unread") == 0


async def test_deliver_at_holds_an_event_back(database: str, connection: Any) -> None:
    """An event with `deliver_at` arrives then, not before; nobody has to be woken for it."""
    arrived: list[float] = []

    async def note(exchange: Exchange) -> None:
        arrived.append(time.time())
        await answer(204)(exchange)

    async with Receiver() as receiver, working(database):
        receiver.on("/hook", note)
        await make_endpoint(connection, f"{receiver.url}/hook")
        deliver_at = datetime.now(UTC) + timedelta(milliseconds=400)
        await insert_event(connection, deliver_at=deliver_at)

        await finished(connection)

        # on a machine that is slow by chance it arrives later for that reason; the test below does not depend on it
        assert arrived[0] >= deliver_at.timestamp() - CLOCKS


async def test_deliver_at_holds_back_nothing_else(database: str, connection: Any) -> None:
    """What is due goes out; what has `deliver_at` not a moment before."""
    clock = early_clock()
    async with stepping(database, clock) as worker:
        await make_endpoint(connection, "https://subscriber.test/hook")
        later = await insert_event(connection, deliver_at=instant(clock, 60))
        now = await insert_event(connection)
        await worker.run("refresh")

        sent = []
        for seconds in (0, 59.9, 0.2):
            clock.advance(seconds)
            await worker.run(*WAY)
            sent.append(webhook_ids(worker.sender.sent))

        assert sent == [[str(now)], [str(now)], [str(now), str(later)]]


async def test_an_expired_event_dies_unsent(database: str, connection: Any) -> None:
    """What is pending after `expires_at` dies without a request."""
    async with Receiver() as receiver:
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection, expires_at=datetime.now(UTC) - timedelta(seconds=1))

        async with working(database):
            (delivery,) = await finished(connection)

        assert (delivery["state"], delivery["reason"], delivery["attempts"]) == ("dead", "expired", 0)
        assert receiver.received == []


async def test_a_retry_that_would_come_after_the_expiry_is_not_waited_for(database: str, connection: Any) -> None:
    """The delivery dies at once when its next attempt would be too late."""
    async with Receiver() as receiver, working(database, retry__schedule="1h"):
        receiver.on("/hook", answer(500))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection, expires_at=datetime.now(UTC) + timedelta(minutes=5))

        (delivery,) = await finished(connection)

        assert (delivery["state"], delivery["reason"], delivery["attempts"]) == ("dead", "expired", 1)


async def test_an_idempotency_key_makes_a_second_insert_harmless(database: str, connection: Any) -> None:
    """The second insert with a tenant's key is skipped; another tenant's is not; after the window it counts again."""
    insert = "insert into dispatcher.outbox (tenant, event_type, payload, idempotency_key) values ($1, 'x', '{}', 'k')"

    first, second, other = [await connection.execute(insert, tenant) for tenant in ("acme", "acme", "other")]
    await connection.execute("update dispatcher.idempotency_keys set used_at = now() - interval '25 hours'")
    third = await connection.execute(insert, "acme")

    assert [first, second, other, third] == ["INSERT 0 1", "INSERT 0 0", "INSERT 0 1", "INSERT 0 1"]


@pytest.mark.parametrize(
    "behaviour, expected",
    [
        pytest.param(answer(400), ("answered", 400, ""), id="400"),
        pytest.param(answer(404), ("answered", 404, ""), id="404"),
        pytest.param(answer(500), ("answered", 500, ""), id="500"),
        pytest.param(answer(304), ("answered", 304, ""), id="304"),
        pytest.param(close_silently, ("unreachable", None, "reset"), id="closed without an answer"),
        pytest.param(reset, ("unreachable", None, "reset"), id="reset"),
        pytest.param(hang, ("unreachable", None, "timeout"), id="hang"),
    ],
)
async def test_what_is_not_2xx_is_retried_by_the_schedule_and_dies(
    database: str, connection: Any, behaviour: Behaviour, expected: tuple[str, int | None, str]
) -> None:
    """Every failure gets the whole schedule, each attempt is logged, and then the delivery dies as exhausted."""
    async with Receiver() as receiver, working(database, egress__timeout="150ms", retry__schedule=QUICK):
        receiver.on("/hook", behaviour)
        await make_endpoint(connection, f"{receiver.url}/hook")
        event_id = await insert_event(connection)

        (delivery,) = await finished(connection)

        assert (delivery["state"], delivery["reason"], delivery["attempts"]) == ("dead", "exhausted", 3)
        log = await attempts(connection)
        assert [(row["number"], row["verdict"]) for row in log] == [(1, "retry"), (2, "retry"), (3, "give_up")]
        assert {(row["outcome"], row["status"], (row["error"] or "").partition(":")[0]) for row in log} == {expected}
        assert {request.headers["webhook-id"] for request in receiver.received} == {str(event_id)}


async def test_a_redirect_is_a_failure_and_not_followed(database: str, connection: Any) -> None:
    """A 3xx to a live server is retried as a failure; the server it points to hears nothing."""
    async with Receiver() as target, Receiver() as receiver, working(database, retry__schedule=QUICK):
        receiver.on("/hook", redirect(f"{target.url}/there"))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        (delivery,) = await finished(connection)

        assert (delivery["state"], delivery["status"], target.received) == ("dead", 302, [])


async def test_a_refused_connection_and_an_unknown_name_are_retried(database: str, connection: Any) -> None:
    """Nobody listening, or no such name: unreachable, with the class and a line for people."""
    async with Receiver() as receiver:
        port = receiver.port
    async with working(database, retry__schedule=QUICK):
        await make_endpoint(connection, f"http://127.0.0.1:{port}/hook", subscriptions=["refused"])
        await make_endpoint(connection, "http://no-such-host.invalid/hook", subscriptions=["unknown"])
        await insert_event(connection, "refused")
        await insert_event(connection, "unknown")

        deliveries = await finished(connection, 2)

    assert [row["state"] for row in deliveries] == ["dead", "dead"]
    classes = {(row["error"] or "").partition(":")[0] for row in await attempts(connection)}
    assert classes == {"refused", "dns"}


async def test_a_blocked_address_is_retried_and_names_the_setting(database: str, connection: Any) -> None:
    """Nothing is sent to a forbidden address; the log says which address, and which setting would allow it."""
    async with Receiver() as receiver, working(database, egress__allow_subnets="192.0.2.0/24", retry__schedule=QUICK):
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        (delivery,) = await finished(connection)

        assert (delivery["state"], receiver.received) == ("dead", [])
        (first, *_) = await attempts(connection)
        assert first["outcome"] == "blocked"
        assert "127.0.0.1" in first["error"]
        assert "allow_subnets" in first["error"]


async def test_a_gzip_bomb_is_stored_only_as_far_as_it_was_read(database: str, connection: Any) -> None:
    """An endless or compressed answer is cut, never inflated; its status still counts."""
    async with Receiver() as receiver, working(database, egress__answer_limit="2048"):
        receiver.on("/hook", gzip_bomb())
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        (delivery,) = await finished(connection)

        (row,) = await attempts(connection)
        assert delivery["state"] == "delivered"
        assert len(row["response_body"]) <= 2048
        assert row["response_cut"] is True


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_makes_the_whole_endpoint_wait(
    database: str, connection: Any, status: int, form: str
) -> None:
    """After a `Retry-After` nothing is sent to the endpoint, other deliveries included, until the time is over."""
    async with Receiver() as receiver, working(database, retry__schedule="50ms,50ms,50ms"):
        value = "2" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        receiver.on("/hook", answer(status, headers={"Retry-After": value}), answer(204))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        (refused,) = await receiver.wait_for(1)
        await until(lambda: attempts(connection))

        await insert_event(connection)

        deliveries = await finished(connection, 2)
        assert [row["state"] for row in deliveries] == ["delivered", "delivered"]
        assert min(request.at for request in receiver.received[1:]) - refused.at > 0.9


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(answer(410), id="410"),
        pytest.param(answer(400, headers={"Webhook-Delivery": "disable"}), id="webhook-delivery: disable"),
    ],
)
async def test_gone_disables_the_endpoint_at_once(database: str, connection: Any, behaviour: Behaviour) -> None:
    """The endpoint is disabled, what is pending dies replayable, and later events do not match it."""
    async with Receiver() as receiver, working(database):
        receiver.on("/hook", behaviour)
        endpoint_id = await make_endpoint(connection, f"{receiver.url}/hook")
        await connection.execute(
            "insert into dispatcher.outbox (tenant, event_type, payload, deliver_at) "
            "select 'acme', 'x', '{}', now() + interval '1 hour' from generate_series(1, 3)"
        )
        await until(lambda: connection.fetchval("select count(*) = 3 from dispatcher.deliveries"))
        await insert_event(connection)

        deliveries = await finished(connection, 4)

        assert {row["reason"] for row in deliveries} == {"gone", "endpoint_disabled"}
        row = await connection.fetchrow("select * from dispatcher.endpoints where id = $1", endpoint_id)
        assert (row["state"], row["disabled_at"] is None) == ("disabled", False)
        after = await insert_event(connection)
        await until(lambda: connection.fetchval("select 1 from dispatcher.unmatched_events where event_id = $1", after))
        assert len(receiver.received) == 1


async def test_abort_message_ends_the_one_delivery(database: str, connection: Any) -> None:
    """`webhook-delivery: abort-message` gives up this delivery and leaves the endpoint as it is."""
    async with Receiver() as receiver, working(database):
        receiver.on("/hook", answer(500, headers={"webhook-delivery": "abort-message"}), answer(204))
        endpoint_id = await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await finished(connection, 1)
        await insert_event(connection)

        aborted, next_one = await finished(connection, 2)

        assert (aborted["state"], aborted["reason"]) == ("dead", "aborted")
        assert next_one["state"] == "delivered"
        state = await connection.fetchval("select state from dispatcher.endpoints where id = $1", endpoint_id)
        assert state == "active"


async def test_independent_verifiers_accept_before_during_and_after_a_rotation(database: str, connection: Any) -> None:
    """Both keys verify during the overlap, only the new one after it; a changed byte never does."""
    new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    async with Receiver() as receiver, working(database):
        endpoint_id = await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await finished(connection, 1)
        await connection.execute(
            "update dispatcher.endpoint_secrets set expires_at = now() + interval '1 hour' where endpoint_id = $1",
            endpoint_id,
        )
        await connection.execute(
            "insert into dispatcher.endpoint_secrets (endpoint_id, sealed) values ($1, $2)", endpoint_id, new.encode()
        )
        await connection.execute("update dispatcher.endpoints set changed_at = clock_timestamp()")

        async def send_until(signatures: int) -> Any:
            await insert_event(connection)
            request = (await receiver.wait_for(len(receiver.received) + 1))[-1]
            return request if len(request.headers["webhook-signature"].split(" ")) == signatures else None

        during = await until(lambda: send_until(2))
        await connection.execute(
            "update dispatcher.endpoint_secrets set expires_at = now() where expires_at is not null"
        )
        await connection.execute("update dispatcher.endpoints set changed_at = clock_timestamp()")
        after = await until(lambda: send_until(1))

    before = receiver.received[0]
    accepted = {
        (name, when)
        for name, secret in {"old": SECRET, "new": new}.items()
        for when, request in {"before": before, "during": during, "after": after}.items()
        if _verifies(secret, request.body, dict(request.headers))
    }
    assert accepted == {("old", "before"), ("old", "during"), ("new", "during"), ("new", "after")}
    assert not _verifies(new, after.body.replace(b"67890", b"67891"), dict(after.headers))


def _verifies(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    """Whether both independent libraries accept; they must agree."""
    verdicts = set()
    for library in (standardwebhooks.Webhook, svix.Webhook):
        try:
            library(secret).verify(body, headers)
        except (standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError):
            verdicts.add(False)
        else:
            verdicts.add(True)
    assert len(verdicts) == 1
    return verdicts.pop()


async def test_a_paused_endpoint_holds_and_drains_on_resume(database: str, connection: Any) -> None:
    """Events match and wait while an endpoint is paused; on resume they arrive."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook", state="paused")
        await insert_events(connection, 20)
        await until(lambda: connection.fetchval("select count(*) = 20 from dispatcher.deliveries"))
        assert receiver.received == []

        await connection.execute("update dispatcher.endpoints set state = 'active', changed_at = clock_timestamp()")

        await finished(connection, 20)
        assert len(receiver.received) == 20


async def test_rate_limit_spaces_requests_out(database: str, connection: Any) -> None:
    """Twenty events at 20 requests a second take about a second, not an instant."""
    async with Receiver() as receiver, working(database):
        await make_endpoint(connection, f"{receiver.url}/hook", rate_limit=20.0)
        await insert_events(connection, 20)

        requests = await receiver.wait_for(20)

        assert requests[-1].at - requests[0].at > 0.7


async def test_a_hanging_endpoint_falls_to_one_request_in_flight(database: str, connection: Any) -> None:
    """It starts with a few; once it is known to hang, there is a single probe at a time."""
    async with Receiver() as receiver, working(database, egress__timeout="300ms", retry__schedule="200ms,200ms,1h"):
        receiver.on("/hook", hang)
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_events(connection, 50)
        await receiver.wait_for(4)
        await until(lambda: attempts(connection))
        await until(lambda: receiver.in_flight["/hook"] == 0)
        receiver.most_in_flight.clear()

        await receiver.wait_for(8)

        assert receiver.most_in_flight["/hook"] == 1


async def test_health_is_written_down_and_a_first_success_clears_it(database: str, connection: Any) -> None:
    """Failing since the first failure after a success; cleared by the next success."""
    async with Receiver() as receiver, working(database, retry__schedule="300ms"):
        receiver.on("/hook", answer(500), answer(204))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await until(lambda: connection.fetchval("select failing_since is not null from dispatcher.endpoint_health"))

        await finished(connection)

        row = await connection.fetchrow("select * from dispatcher.endpoint_health")
        assert row["failing_since"] is None
        assert row["last_success_at"] >= row["last_failure_at"]
        assert row["last_error"] == "status 500"


async def test_an_endpoint_that_only_fails_is_warned_about_then_disabled_and_recovery_is_told(
    database: str, connection: Any
) -> None:
    """The notices follow the health: failing, disabled for one endpoint; failing, recovered for the other."""
    async with (
        Receiver() as receiver,
        working(database, retry__schedule="100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms", roles=("deliver",)),
    ):
        receiver.on("/bad", answer(500))
        receiver.on("/mended", answer(500), answer(500), answer(500), answer(500), answer(204))
        for path in ("bad", "mended"):
            await make_endpoint(
                connection,
                f"{receiver.url}/{path}",
                notification_email="it@example.com",
                warn_after=0.15,
                disable_after=0.5,
            )
        await insert_event(connection)

        await finished(connection, 2)

        kinds = await connection.fetch(
            "select url, kind from dispatcher.notices join dispatcher.endpoints on endpoints.id = endpoint_id order by notices.id"
        )
        assert [row["kind"] for row in kinds if row["url"].endswith("/bad")] == [
            "endpoint_failing",
            "endpoint_disabled",
        ]
        assert [row["kind"] for row in kinds if row["url"].endswith("/mended")] == [
            "endpoint_failing",
            "endpoint_recovered",
        ]
        states = await connection.fetch("select state from dispatcher.endpoints order by url")
        assert [row["state"] for row in states] == ["disabled", "active"]
