"""A connection that stands in for a pool, so that what `Admin` does becomes part of a transaction that is open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Held:
    """Stands in for a pool; its one connection is in a transaction already, in which others become savepoints."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Give the connection."""
        yield self._connection
