"""Ordering keys: of one endpoint's deliveries with one key, each goes out only when the one before it has ended.

Judged at the receiver, by the first arrival of each event that was answered with success.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.model import DeliveryId
from support.admin import open_admin
from support.receiver import ANY, Behaviour, Exchange, Receiver, head
from support.serving import serving
from support.tally import arrivals, settled
from support.world import insert_event, make_endpoint, until, working

pytestmark = pytest.mark.system

KEYS = [f"patient-{number}" for number in range(20)]
EACH = 30
PATHS = ("/a", "/b", "/c")
DELIVERIES = len(KEYS) * EACH * len(PATHS)
IN_ORDER = list(range(1, EACH + 1))


@dataclass(frozen=True, slots=True)
class Try:
    """A request as the receiver sees it: the `number`th event of `key`, for the `attempt`th time at `path`."""

    path: str
    key: str
    number: int
    attempt: int


@dataclass(slots=True)
class Ledger:
    """Answers by a rule, and writes down what succeeded, in order."""

    status: Callable[[Try], int]
    delay: float = 0.0
    succeeded: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """By path and key: numbers of events, in the order in which they were first answered with success."""
    tries: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))

    def behave(self) -> Behaviour:
        """The receiver's script."""

        async def behave(exchange: Exchange) -> None:
            path = exchange.request.path
            data = json.loads(exchange.request.body)["data"]
            self.tries[path, data["key"], data["n"]] += 1
            attempt = self.tries[path, data["key"], data["n"]]
            status = self.status(Try(path, data["key"], data["n"], attempt))
            await exchange.pause(self.delay)
            await exchange.send(head(status, {"Content-Length": "0"}))
            # its sender may have been killed meanwhile; the receiver has worked on it all the same
            if status == 200 and data["n"] not in self.succeeded[path, data["key"]]:
                self.succeeded[path, data["key"]].append(data["n"])

        return behave


async def insert_interleaved(connection: Any, keys: list[str], each: int) -> None:
    """Insert so many events of each key, the keys in turn."""
    await connection.execute(
        """
        insert into dispatcher.outbox (tenant, event_type, payload, ordering_key)
        select 'acme', 'patient.updated', json_build_object('key', key, 'n', n), key
        from generate_series(1, $2::integer) as n, unnest($1::text[]) with ordinality as keys (key, place)
        order by n, place
        """,
        keys,
        each,
    )


async def insert_one(connection: Any, key: str, number: int, **columns: Any) -> None:
    """Insert one event of a key."""
    payload = json.dumps({"key": key, "n": number})
    await insert_event(connection, "patient.updated", payload, ordering_key=key, **columns)


async def states(connection: Any) -> Mapping[int, tuple[str, str | None]]:
    """By an event's number: the end of its delivery, and why."""
    rows = await connection.fetch(
        """
        select (outbox.payload ->> 'n')::integer as number, finished.state, finished.reason
        from dispatcher.finished_deliveries as finished
        join dispatcher.outbox on outbox.id = finished.event_id
        """
    )
    return {row["number"]: (row["state"], row["reason"]) for row in rows}


async def has_states(connection: Any, expected: Mapping[int, tuple[str, str | None]]) -> bool:
    """Whether these deliveries, and no others, have ended so."""
    return await states(connection) == expected


async def test_each_key_arrives_in_order_across_failures(database: str, connection: Any) -> None:
    """First attempts fail here and there: the next of the key waits for the retry, on every endpoint."""

    def status(one: Try) -> int:
        return 500 if one.attempt == 1 and (one.number + len(one.path) + KEYS.index(one.key)) % 7 == 0 else 200

    ledger = Ledger(status)
    async with Receiver() as receiver, working(database, retry__schedule="50ms,50ms"):
        receiver.on(ANY, ledger.behave())
        for path in PATHS:
            await make_endpoint(connection, receiver.url + path)
        await insert_interleaved(connection, KEYS, EACH)

        await settled(connection, DELIVERIES)

    assert len(ledger.succeeded) == len(KEYS) * len(PATHS)
    assert [order for order in ledger.succeeded.values() if order != IN_ORDER] == []
    assert any(times > 1 for times in ledger.tries.values())


async def test_a_key_that_fails_holds_up_no_other(database: str, connection: Any) -> None:
    """While one key waits for its retry, all others of the same endpoint go through; then it goes on."""
    mended = asyncio.Event()

    def status(one: Try) -> int:
        return 500 if one.key == "patient-3" and one.number == 5 and not mended.is_set() else 200

    ledger = Ledger(status)
    async with Receiver() as receiver, working(database, retry__schedule=",".join(["200ms"] * 40)):
        receiver.on(ANY, ledger.behave())
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_interleaved(connection, KEYS, EACH)
        held = EACH - 4
        ended = len(KEYS) * EACH - held

        await until(lambda: connection.fetchval("select count(*) = $1 from dispatcher.deliveries", held), timeout=20)
        assert await connection.fetchval("select count(*) from dispatcher.finished_deliveries") == ended
        assert ledger.succeeded["/hook", "patient-3"] == [1, 2, 3, 4]
        mended.set()

        await settled(connection, len(KEYS) * EACH)
    assert [order for order in ledger.succeeded.values() if order != IN_ORDER] == []


async def test_the_next_one_follows_a_death(database: str, connection: Any) -> None:
    """A delivery that dies makes room for the one behind it."""
    ledger = Ledger(lambda one: 500 if one.number in {1, 10, 11, EACH} else 200)
    async with Receiver() as receiver, working(database, retry__schedule="50ms"):
        receiver.on(ANY, ledger.behave())
        for path in PATHS:
            await make_endpoint(connection, receiver.url + path)
        await insert_interleaved(connection, KEYS[:5], EACH)

        await settled(connection, 5 * EACH * len(PATHS))

    survivors = [number for number in IN_ORDER if number not in {1, 10, 11, EACH}]
    assert list(ledger.succeeded.values()) == [survivors] * (5 * len(PATHS))
    assert ledger.tries["/a", "patient-0", 1] == 2


async def test_the_next_one_follows_an_expiry(database: str, connection: Any) -> None:
    """What expires while its endpoint is paused, at the head, in the middle or at the end, dies unsent; the rest arrives."""
    ledger = Ledger(lambda _: 200)
    async with Receiver() as receiver, working(database):
        receiver.on(ANY, ledger.behave())
        await make_endpoint(connection, f"{receiver.url}/hook", state="paused")
        soon = datetime.now(UTC) + timedelta(milliseconds=300)
        for number in range(1, 7):
            await insert_one(connection, "k", number, expires_at=soon if number in {1, 4, 6} else None)
        expired = dict.fromkeys((1, 4, 6), ("dead", "expired"))
        await until(lambda: has_states(connection, expired), why="the death of what has expired")

        await connection.execute("update dispatcher.endpoints set state = 'active', changed_at = clock_timestamp()")

        await settled(connection, 6)
        assert ledger.succeeded["/hook", "k"] == [2, 3, 5]
        assert expired.items() <= (await states(connection)).items()


async def test_the_next_one_follows_a_cancellation(database: str, connection: Any) -> None:
    """A head that waits for its retry is cancelled by a person: the one behind it goes out at once."""
    ledger = Ledger(lambda one: 500 if one.number == 1 else 200)
    async with Receiver() as receiver, working(database, retry__schedule="1h"), open_admin(database) as admin:
        receiver.on(ANY, ledger.behave())
        await make_endpoint(connection, f"{receiver.url}/hook")
        for number in range(1, 4):
            await insert_one(connection, "k", number)
        waiting = await until(
            lambda: connection.fetchval("select id from dispatcher.deliveries where attempts = 1"), why="the retry"
        )

        await admin.cancel_delivery(DeliveryId(waiting))

        await settled(connection, 3, timeout=4)
        assert ledger.succeeded["/hook", "k"] == [2, 3]
        assert (await states(connection))[1][0] == "cancelled"


@pytest.mark.parametrize("ending", ["killed", "terminated"])
async def test_each_key_stays_in_order_across_the_end_of_a_worker(database: str, connection: Any, ending: str) -> None:
    """A worker ends in the middle, some first attempts fail: order holds; only a killed one's requests come twice."""

    def status(one: Try) -> int:
        return 500 if one.attempt == 1 and (one.number + KEYS.index(one.key)) % 9 == 0 else 200

    ledger = Ledger(status, delay=0.01)
    async with Receiver() as receiver:
        receiver.on(ANY, ledger.behave())
        for path in PATHS:
            await make_endpoint(connection, receiver.url + path)
        await insert_interleaved(connection, KEYS, EACH)
        async with serving(database, retry__schedule="100ms,100ms,100ms") as first:
            await receiver.wait_for(DELIVERIES // 3, timeout=60)
            if ending == "killed":
                first.kill()
            else:
                assert await first.terminate() == 0
        assert len(receiver.received) < DELIVERIES

        async with serving(database, retry__schedule="100ms,100ms,100ms"):
            await settled(connection, DELIVERIES)

    assert len(ledger.succeeded) == len(KEYS) * len(PATHS)
    assert [order for order in ledger.succeeded.values() if order != IN_ORDER] == []
    assert set((await states(connection)).values()) == {("delivered", None)}
    repeats = sum(arrivals(receiver).values()) - await connection.fetchval("select count(*) from dispatcher.attempts")
    # one request at a time for each key of each endpoint
    assert repeats <= (len(KEYS) * len(PATHS) if ending == "killed" else 0)
