"""An endpoint that is read anew while a request to it is in flight: what comes of the request still counts."""

import asyncio
from typing import Any

from dispatcher.model import EndpointId
from support.receiver import Receiver, answer
from support.world import insert_event, make_endpoint, until, working


async def test_a_failure_counts_though_the_endpoint_was_read_anew_meanwhile(database: str, connection: Any) -> None:
    """The health that the attempt changes is that of the endpoint as it is known now."""
    go = asyncio.Event()
    async with Receiver() as receiver, working(database) as worker:
        receiver.on("/", answer(500, after=go))
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/", retry_schedule=[3600.0]))
        await insert_event(connection)
        await receiver.wait_for(1)
        assert worker._engine is not None
        subscribers = worker._engine._subscribers
        before = subscribers.get(endpoint_id)

        await connection.execute(
            "update dispatcher.endpoints set changed_at = clock_timestamp() where id = $1", endpoint_id
        )
        await until(lambda: subscribers.get(endpoint_id) is not before, why="the reading")
        go.set()
        await until(lambda: connection.fetchval("select failing_since is not null from dispatcher.endpoint_health"))

        after = subscribers.get(endpoint_id)
        assert after is not None
        assert after.health.failing_since is not None
