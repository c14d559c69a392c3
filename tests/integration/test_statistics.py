"""What is counted over time, in memory and in the database."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.model import EndpointId, Unreachable, UnreachableReason
from dispatcher.store import statistics as store
from dispatcher.store.statistics import Load
from dispatcher.tally import LATENCIES, EndpointQuarter, Minute
from support.clock import FakeClock
from support.steps import WAY, answered, early_clock, stepping
from support.world import insert_events, make_endpoint

NOON = 1_767_268_800
"""Unix seconds; the start of an hour."""


@pytest.fixture
def clock() -> FakeClock:
    """A clock that begins in the past."""
    return early_clock()


async def rows(connection: Any, resolution: int) -> list[Any]:
    """What is written of the service."""
    found: list[Any] = await connection.fetch(
        "select * from dispatcher.service_statistics where resolution = $1 order by start_at", resolution
    )
    return found


async def test_what_a_worker_does_is_written_down(database: str, connection: Any, clock: FakeClock) -> None:
    """Attempts by what they came to, ends, latencies; for the service and for the endpoint."""
    endpoint_id = await make_endpoint(connection, "https://example.com/", retry_schedule=[3600.0])
    await insert_events(connection, 3)
    async with stepping(database, clock) as worker:
        await worker.run(*WAY)
        await worker.answer(answered(204), 1)
        await worker.answer(answered(503), 1)
        await worker.answer(Unreachable(UnreachableReason.TIMEOUT, "", 15.0, None), 1)
        await worker.run("record", "statistics")

        for resolution in (60, 900):
            (row,) = await rows(connection, resolution)
            assert (row["answered_2xx"], row["answered_5xx"], row["unreachable"], row["delivered"]) == (1, 1, 1, 1)
            assert sum(row["latencies"]) == 3
            assert row["latencies"][LATENCIES.index(15.0)] == 1
        (row,) = await connection.fetch("select * from dispatcher.endpoint_statistics")
        assert row["endpoint_id"] == endpoint_id
        assert (row["answered_2xx"], row["answered_5xx"], row["unreachable"], row["dead"]) == (1, 1, 1, 0)


async def test_several_workers_add_to_the_same_row(connection: Any) -> None:
    """Counts add up, however they come: one after the other or at once."""
    endpoint_id = EndpointId(await make_endpoint(connection, "https://example.com/"))
    load = Load(due=5, oldest_due_seconds=2.0, in_flight=3, held=0, lanes=0)
    minute = Minute(NOON + 60, attempts=[4, 0, 0, 1, 0, 0], ended=[4, 1, 0])
    minute.latencies[3] = 5

    for _ in range(2):
        await store.write(connection, uuid4(), minute, load=load)
        await store.write_endpoints(connection, [EndpointQuarter(endpoint_id, NOON, [4, 0, 0, 1, 0, 0, 1])])

    (row,) = await rows(connection, 60)
    (quarter,) = await rows(connection, 900)
    assert row["start_at"].timestamp() == NOON + 60
    assert quarter["start_at"].timestamp() == NOON
    assert (row["answered_2xx"], row["answered_5xx"], row["delivered"], row["dead"]) == (8, 2, 8, 2)
    assert row["latencies"] == [0, 0, 0, 10] + [0] * (len(LATENCIES) - 3)
    assert (row["due"], row["oldest_due_seconds"], row["in_flight"]) == (5, 2.0, 3)
    counts = await connection.fetchrow("select answered_2xx, answered_5xx, dead from dispatcher.endpoint_statistics")
    assert tuple(counts) == (8, 2, 2)
