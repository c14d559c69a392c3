"""A clock that moves only when told to."""

from datetime import UTC, datetime

from dispatcher.clock import Clock

START = 1_767_225_600.0
"""2026-01-01 00:00 UTC: any fixed instant does; this one is easy to read in a failure."""


class FakeClock(Clock):
    """Stands still until `advance`; SQL follows it through `override`."""

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self._now = start

    def now(self) -> float:
        """The instant it was set to."""
        return self._now

    def monotonic(self) -> float:
        """The same count as `now`, so that durations follow `advance`."""
        return self._now

    def synchronise(self, database_now: float) -> None:
        """Ignore the database: it is the one that follows."""

    def override(self) -> datetime | None:
        """The instant it was set to, for SQL."""
        return datetime.fromtimestamp(self._now, UTC)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += seconds
