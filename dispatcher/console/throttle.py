"""Slows guessing of passwords down; in memory, for one process is the only one that signs people in on its host."""

from collections.abc import Callable
from typing import Final

FREE: Final = 5
"""Failures that cost no time: people mistype."""

FIRST: Final = 2.0
"""Seconds to wait after one more; each further one doubles them."""

LONGEST: Final = 900.0
"""Seconds: long enough to make guessing hopeless, short enough for somebody to try again after a cup of tea."""

MOST: Final = 10_000
"""Names and addresses remembered; whoever comes with more of them pushes out the oldest."""


class Throttle:
    """Count failures by name and by address, and say how long the next try has to wait."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: dict[str, tuple[int, float]] = {}
        """How many, and until when the next one has to wait."""

    def wait(self, *keys: str) -> float:
        """Return for how many seconds nothing with one of these keys may be tried; 0: at once."""
        now = self._monotonic()
        return max(0.0, *(self._failures[key][1] - now for key in keys if key in self._failures), 0.0)

    def failed(self, *keys: str) -> None:
        """Note a failure."""
        now = self._monotonic()
        for key in keys:
            count, until = self._failures.pop(key, (0, now))
            if now - until > LONGEST:  # a long time without one
                count = 0
            count += 1
            pause = 0.0 if count <= FREE else min(FIRST * 2 ** (count - FREE - 1), LONGEST)
            self._failures[key] = (count, now + pause)
        while len(self._failures) > MOST:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, *keys: str) -> None:
        """Forget the failures of these keys."""
        for key in keys:
            self._failures.pop(key, None)
