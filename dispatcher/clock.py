"""Tell the time by the database's clock, so that every worker agrees with the rows it reads.

Durations are measured by the monotonic clock; instants are unix seconds. Waiting is `service`'s alone.
"""

import time
from datetime import datetime


class Clock:
    """The database's clock as seen from this process: an offset to the monotonic clock.

    Until `synchronise` is called the machine's own clock stands in. A step of the machine's clock changes nothing.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """The instant, unix seconds by the database's clock."""
        return self.monotonic() + self._offset

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For durations."""
        return time.monotonic()

    def synchronise(self, database_now: float) -> None:
        """Take over the database's clock, as read (`extract(epoch from clock_timestamp())`) a moment ago."""
        self._offset = database_now - self.monotonic()

    def override(self) -> datetime | None:
        """The instant that SQL shall take for now, in `coalesce($n, now())`; None: its own."""
        return None
