"""What the database refuses to write down: it neither holds up other results, nor makes anybody send again and again."""

from typing import Any

from support.receiver import Receiver, answer
from support.steps import WAY, SteppedWorker, answered, early_clock, stepping
from support.world import finished, insert_event, make_endpoint, until, working

ENDPOINT = "https://subscriber.test/hook"


async def refuse(connection: Any, condition: str) -> None:
    """Let the database take attempts only that meet a condition."""
    await connection.execute(f"alter table dispatcher.attempts add constraint attempts_picky check ({condition})")


async def take_all(connection: Any) -> None:
    """Let the database take any attempt again."""
    await connection.execute("alter table dispatcher.attempts drop constraint attempts_picky")


async def attempts(connection: Any) -> list[tuple[Any, ...]]:
    """What is written down of attempts."""
    rows = await connection.fetch("select number, status, verdict, error from dispatcher.attempts order by 1, 2")
    return [tuple(row) for row in rows]


async def test_an_answer_that_cannot_be_stored_counts_all_the_same(database: str, connection: Any) -> None:
    """It is written down without what came from outside: the schedule goes on, and ends; each attempt says why."""
    await refuse(connection, "response_headers is null and address is null")
    async with Receiver() as receiver, working(database, retry__schedule="10ms,10ms"):
        receiver.on("/hook", answer(500))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)

        (delivery,) = await finished(connection)

        assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("dead", 3, 500)
        recorded = await attempts(connection)
        assert [row[:3] for row in recorded] == [(1, 500, "retry"), (2, 500, "retry"), (3, 500, "give_up")]
        assert {row[3].partition(":")[0] for row in recorded} == {"unrecordable"}
        assert len(receiver.received) == 3


async def test_no_answer_that_cannot_be_stored_keeps_its_class(database: str, connection: Any) -> None:
    """Why nothing came is our own word; it can always be written down."""
    await refuse(connection, "error not like '%loopback%' and address is null")
    async with working(database, retry__schedule="10ms", egress__allow_subnets=""):
        await make_endpoint(connection, "http://127.0.0.1:9/hook")
        await insert_event(connection)

        await until(lambda: attempts(connection))

        assert (await attempts(connection))[0][3].startswith("blocked: the database refused")


async def refused_once(worker: SteppedWorker, connection: Any) -> None:
    """Let a delivery be answered, and its result be refused whatever it holds."""
    await make_endpoint(connection, ENDPOINT)
    await insert_event(connection)
    await refuse(connection, "number < 1")
    await worker.run("refresh", *WAY)
    await worker.answer(answered(204))
    await worker.run("record")


async def test_what_is_refused_altogether_is_not_sent_again(database: str, connection: Any) -> None:
    """Its delivery waits; the result is tried ever later, and written down when the database takes it."""
    clock = early_clock()
    async with stepping(database, clock) as worker:
        await refused_once(worker, connection)

        for _ in range(20):
            clock.advance(10.0)
            await worker.run("sweep", *WAY, "record")
        sent = len(worker.sender.sent)
        await take_all(connection)
        clock.advance(60.0)
        await worker.run("record")

        assert (sent, await attempts(connection)) == (1, [(1, 204, "done", None)])
        assert worker.engine.record.unwritten == []
        assert worker.lanes.in_flight() == 0


async def test_what_is_refused_holds_nothing_else_up(database: str, connection: Any) -> None:
    """Results of the same batch are written down whole."""
    async with stepping(database, early_clock()) as worker:
        await refuse(connection, "status <> 204")
        await make_endpoint(connection, ENDPOINT)
        await insert_event(connection)
        await insert_event(connection)
        await worker.run("refresh", *WAY)
        await worker.answer(answered(204), count=1)
        await worker.answer(answered(500, X_Why="trouble"))
        await worker.run("record")

        written = await connection.fetch("select status, response_headers, error from dispatcher.attempts")

        assert [tuple(row) for row in written] == [(500, '[["X-Why","trouble"]]', None)]


async def test_what_is_refused_does_not_keep_a_shard(database: str, connection: Any) -> None:
    """It goes to whoever owns the shard next, who sends again: once."""
    clock = early_clock()
    async with stepping(database, clock) as worker:
        await refused_once(worker, connection)
        shard = await connection.fetchval("select shard from dispatcher.deliveries")

        worker.engine._held_back([shard])

        assert worker.engine._drained(shard)
        assert worker.engine.record.unwritten == []
