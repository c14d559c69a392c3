"""Plans that a connection made while the tables were empty, and keeps, read by key when the tables have grown."""

from typing import Any

from dispatcher.model import Delivery, EndpointId, Shard
from dispatcher.store import deliveries, outbox
from dispatcher.store.deliveries import Ended, Place, Result
from dispatcher.worker import open_worker_pool
from support.world import insert_event, insert_events, make_endpoint, settings_for

SHARDS = [Shard(number) for number in range(256)]

BEFORE_A_PLAN_IS_KEPT = 8
"""Postgres plans five executions one by one before it settles on a plan."""


async def fan_out(connection: Any) -> list[Delivery]:
    """Fan out a batch."""
    unread = await outbox.read(connection, dict.fromkeys(SHARDS, 0), per_shard=250, limit=1000)
    async with connection.transaction():
        return await outbox.fan_out(connection, unread, now=None)


def result_of(delivery: Delivery, verdict: str, number: int) -> Result:
    """An attempt that ended with this verdict."""
    return Result(
        delivery_id=delivery.id,
        shard=delivery.shard,
        number=number,
        verdict=verdict,
        delay=0.0 if verdict == "retry" else None,
        reason=None,
        started=0.0,
        seconds=0.01,
        outcome="answered",
        status=200,
        error=None,
        address=None,
        headers=None,
        body=None,
        body_cut=None,
    )


async def work_once(connection: Any, endpoint_id: EndpointId) -> None:
    """Run every statement of the hot path once, for a single delivery."""
    (delivery, *_) = await fan_out(connection)
    place = Place(delivery.shard, endpoint_id, float("-inf"), -1, 8)
    async with connection.transaction():
        await deliveries.record(connection, [result_of(delivery, "retry", 1)], age_at=0.0, now=None)
        await deliveries.pull(connection, [place], now=None)
        await deliveries.next_due(connection, [place])
        await deliveries.record(connection, [result_of(delivery, "done", 2)], age_at=0.0, now=None)
        await deliveries.lanes_with_work(connection, SHARDS)
        await deliveries.kill_expired(connection, SHARDS, limit=10, busy=[], now=None)
        await deliveries.kill_overdue(connection, {endpoint_id: (delivery.shard, 1e6)}, limit=10, busy=[], now=None)
        await deliveries.kill_ended(
            connection, [Ended(delivery.shard, endpoint_id, archived=False)], limit=0, busy=[], now=None
        )
        await deliveries.promote(connection, [(endpoint_id, "k")], now=None)
        await deliveries.orphaned_ordering_keys(connection, SHARDS, limit=10)


async def rows_read_end_to_end(connection: Any) -> dict[str, int]:
    """How many rows sequential scans of the hot tables have read so far, by table."""
    await connection.execute("select pg_stat_clear_snapshot()")
    rows = await connection.fetch(
        """
        select relname, seq_tup_read from pg_stat_user_tables
        where relname in ('deliveries', 'outbox_unread') or relname like 'outbox\\_2%'
        """
    )
    return {row["relname"]: row["seq_tup_read"] for row in rows}


async def test_plans_made_on_empty_tables_stay_good(database: str, connection: Any) -> None:
    """After a burst no statement of the hot path reads a table from end to end, though nothing was analysed meanwhile."""
    endpoint_id = EndpointId(await make_endpoint(connection, "https://example.com/"))
    before = await rows_read_end_to_end(connection)
    pool = await open_worker_pool(settings_for(database), database)
    async with pool.acquire() as own:
        for _ in range(BEFORE_A_PLAN_IS_KEPT):
            await insert_event(connection)
            await work_once(own, endpoint_id)
        await insert_events(connection, 2000)
        for _ in range(4):
            await work_once(own, endpoint_id)
    await pool.close()  # a session tells what it has read when it ends

    after = await rows_read_end_to_end(connection)

    assert after == before
