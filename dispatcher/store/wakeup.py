"""LISTEN for the outbox's wake-ups, on a connection of its own: a pool's may be behind a pooler, and is shared."""

import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg

from dispatcher.store import outbox, pool

CHANNEL = "dispatcher"


class Wakeup:
    """The step that keeps one listening connection; `on_wake` is called for each notification."""

    name = "wakeup"
    pause = 5.0
    """Seconds between looks whether the connection still lives; without it, workers poll."""

    def __init__(self, url: str, *, on_wake: Callable[[], None]) -> None:
        self._url = url
        self._on_wake = on_wake
        self._connection: asyncpg.Connection | None = None

    async def run_once(self) -> int:
        """Connect if needed, and see that the connection lives; returns 0, because the next look is due in a while."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await pool.connect(
                self._url, application_name="dispatcher wake-up", patience=0, command_timeout=self.pause
            )
            await self._connection.add_listener(CHANNEL, self._heard)
            await outbox.fill_wakeups(self._connection)  # a crash of the server empties the unlogged table
            self._on_wake()  # something may have been said while nobody listened
        else:
            await self._connection.execute("select 1")
        return 0

    def _heard(self, *_: Any) -> None:
        self._on_wake()

    async def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.close(timeout=1)
