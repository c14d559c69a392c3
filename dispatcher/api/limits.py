"""Holds back who asks too much: a token bucket for each key, in this process."""

import math
from collections import OrderedDict
from collections.abc import Callable

MOST_BUCKETS = 10_000
"""Of keys that asked last. Whoever falls out begins with a full bucket, so that only memory is at stake."""

BURST_SECONDS = 2.0
"""How long a key may save up what it does not use."""


class Buckets:
    """One bucket for each key: `rate` requests a second, twice as many at once."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(rate * BURST_SECONDS, 1.0)
        self._monotonic = monotonic
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, key: bytes) -> float:
        """Take a token; returns 0, or the seconds until there is one. A rate of 0 limits nothing."""
        if self._rate <= 0:
            return 0.0
        now = self._monotonic()
        tokens, then = self._buckets.pop(key, (self._most, now))
        tokens = min(self._most, tokens + (now - then) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait


def whole_seconds(wait: float) -> int:
    """Round up to what `Retry-After` can say."""
    return max(1, math.ceil(wait))
