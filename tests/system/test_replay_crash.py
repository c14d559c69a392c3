"""A large replay whose worker is killed half-way: it goes on after a restart, replays each delivery once, keeps its rate."""

import asyncio
import signal
from typing import Any

import pytest

from dispatcher.admin import Fate, ReplayDraft, ReplayState
from dispatcher.model import EndpointId
from support.admin import open_admin
from support.receiver import Receiver
from support.serving import serving
from support.tally import arrivals, expected, quiet, recorded, repeated, settled
from support.world import make_endpoint, until

pytestmark = pytest.mark.system

DEAD = 10_000
RATE = 2000.0
"""A second: the replay takes five."""
HEAD_START = 0.2
"""Seconds' worth of the rate that may come at once."""


async def bury(connection: Any, endpoint_id: EndpointId) -> None:
    """Make events that have died at an endpoint."""
    await connection.execute("alter table dispatcher.outbox disable trigger announce_outbox_rows")
    await connection.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload) "
        "select 'acme', 'appointment.created', '{}' from generate_series(1, $1::integer)",
        DEAD,
    )
    await connection.execute("alter table dispatcher.outbox enable trigger announce_outbox_rows")
    await connection.execute(
        """
        insert into dispatcher.finished_deliveries
          (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status)
        select
          nextval('dispatcher.deliveries_id_seq'), $1, id, inserted_at, inserted_at, clock_timestamp(), shard, 10, false,
          'dead', 'exhausted', 503
        from dispatcher.outbox
        """,
        endpoint_id,
    )


async def test_a_replay_that_is_killed_half_way_goes_on_after_a_restart(database: str, connection: Any) -> None:
    """`kill -9` in the middle: every dead delivery is replayed, each once, never faster than asked."""
    async with Receiver() as receiver, open_admin(database) as admin:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        await bury(connection, endpoint_id)
        replay = await admin.create_replay(endpoint_id, ReplayDraft(rate=RATE))
        loop = asyncio.get_running_loop()
        started = loop.time()

        async with serving(database) as doomed:
            await until(
                lambda: connection.fetchval("select replayed >= $1 from dispatcher.replays", DEAD // 2), timeout=60
            )
            doomed.kill()
            assert await doomed.ended() == -signal.SIGKILL
        await quiet(receiver)
        halfway = await admin.replay(replay.id)
        unrecorded = set(arrivals(receiver)) - await recorded(connection)
        async with serving(database):
            await settled(connection, 2 * DEAD)
        took = loop.time() - started

        ended = await admin.replay(replay.id)
        assert halfway.state is ReplayState.RUNNING
        assert DEAD // 2 <= halfway.fates[Fate.REPLAYED] < DEAD
        assert (ended.state, ended.expected, ended.fates[Fate.REPLAYED]) == (ReplayState.DONE, DEAD, DEAD)
        per_event = await connection.fetch(
            "select distinct count(*) as made from dispatcher.finished_deliveries where state = 'delivered' group by event_id"
        )
        assert [row["made"] for row in per_event] == [1]
        counted = arrivals(receiver)
        assert set(counted) == await expected(connection, ["/hook"])
        assert repeated(counted) <= unrecorded
        assert took >= DEAD / RATE - HEAD_START
        assert await most_within_a_second(connection) <= RATE * (1 + HEAD_START) + 1


async def most_within_a_second(connection: Any) -> int:
    """How many deliveries the replay made at most within one second."""
    most: int = await connection.fetchval(
        """
        select max(made)
        from (
          select count(*) over (order by created_at range between interval '1 second' preceding and current row) as made
          from dispatcher.finished_deliveries
          where state = 'delivered'
        ) as windows
        """
    )
    return most
