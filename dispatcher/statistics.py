"""Write down what the worker has counted (`tally`), every few seconds and once more at the end.

Each statement stands alone: nothing depends on these numbers, and what cannot be written now is counted on and written
later.
"""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from dispatcher.store import statistics as store
from dispatcher.store.pool import Pool
from dispatcher.store.statistics import Load
from dispatcher.tally import Tally

ENDPOINTS: Final = 1000
"""Endpoints written in one round, some tens of milliseconds: where more are busy each is written less often, instead of
all of them every time."""


class Statistics:
    """The step that writes counters down."""

    name = "statistics"
    pause = 5.0
    """Seconds: how late the console's numbers are."""

    def __init__(self, pool: Pool, *, worker: UUID, tally: Tally, load: Callable[[], Load]) -> None:
        """`load` tells what the worker does now."""
        self._pool = pool
        self._worker = worker
        self._tally = tally
        self._load = load

    async def run_once(self) -> int:
        """Write what was counted; returns 0, because the next round is due in a while."""
        await self._write_minutes()
        await self._write_quarters(ENDPOINTS)
        return 0

    async def write_all(self) -> None:
        """Write all of it, at the end of the worker's life."""
        await self._write_minutes()
        while await self._write_quarters(ENDPOINTS):
            pass

    async def _write_minutes(self) -> None:
        minutes = self._tally.take_minutes()
        try:
            async with self._pool.acquire() as connection:
                while minutes:
                    load = self._load() if len(minutes) == 1 else None
                    await store.write(connection, self._worker, minutes[0], load=load)
                    del minutes[0]
        except BaseException:
            self._tally.give_back(minutes)
            raise

    async def _write_quarters(self, limit: int) -> int:
        quarters = self._tally.take_quarters(limit)
        if not quarters:
            return 0
        try:
            async with self._pool.acquire() as connection:
                await store.write_endpoints(connection, quarters)
        except BaseException:
            self._tally.give_back((), quarters)
            raise
        return len(quarters)
