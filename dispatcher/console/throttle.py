"""Slows guessing of passwords down; in memory, for one process is the only one that signs people in on its host."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["name", "address"]
Key = tuple[Kind, str]

FREE: Final = 5
"""Failures that cost no time: people mistype."""

FIRST: Final = 2.0
"""Seconds to wait after one more; each further one doubles them."""

LONGEST: Final[Mapping[Kind, float]] = MappingProxyType({"name": 60.0, "address": 900.0})
"""Seconds. Who guesses from one place is held back for long; a name only so far that nobody can shut its owner out for
good, and that a thousand guesses from everywhere still take most of a day."""

FORGOTTEN: Final = 900.0
"""Seconds without a failure after which it begins anew."""

MOST: Final = 10_000
"""Names and addresses remembered; whoever comes with more of them pushes out the oldest."""

MOST_DOUBLINGS: Final = 20
"""Past every longest pause; two to the power of thousands is no number of seconds."""


class Throttle:
    """Count tries by name and by address, and say how long the next one has to wait."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: dict[Key, tuple[int, float]] = {}
        """How many, and until when the next one has to wait."""

    def take(self, *keys: Key) -> float:
        """Return 0 and count a try with these keys, or the seconds for which nothing with one of them may be tried.

        It counts as a failure until `succeeded`, so that tries at the same moment do not slip through together.
        """
        now = self._monotonic()
        wait = max((self._failures[key][1] - now for key in keys if key in self._failures), default=0.0)
        if wait > 0:
            return wait
        for key in keys:
            self._count(key, now)
        while len(self._failures) > MOST:
            del self._failures[next(iter(self._failures))]
        return 0.0

    def _count(self, key: Key, now: float) -> None:
        count, until = self._failures.pop(key, (0, now))  # what failed last stands last
        count = 1 if now - until > FORGOTTEN else count + 1
        doublings = min(count - FREE - 1, MOST_DOUBLINGS)
        pause = 0.0 if count <= FREE else min(FIRST * 2**doublings, LONGEST[key[0]])
        self._failures[key] = (count, now + pause)

    def succeeded(self, *keys: Key) -> None:
        """Forget the failures of these keys."""
        for key in keys:
            self._failures.pop(key, None)
