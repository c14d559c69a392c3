"""Time single events, one after the other: what a subscriber feels of all that goes on beside it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from support.receiver import Receiver
from support.world import insert_event

EVENTS = 40
"""Single events a measurement: enough for a median and a ninth decile that mean something."""

SLOWER, SLACK = 3.0, 0.020
"""How much slower a single event may be beside others: three times, and 20 ms for a batch of theirs (250 rows fanned out
take 10 to 15 ms) that it may have to wait for. The bound is wide because receiver, producer and worker share one core."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from the insert to the arrival."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Half of them are below it."""
        return median(self.seconds)

    @property
    def p90(self) -> float:
        """Nine in ten are below it."""
        return quantiles(self.seconds, n=10)[-1]

    def unhurt(self, idle: "Latencies") -> bool:
        """Whether they are about as good as on an idle service."""
        return self.median <= SLOWER * idle.median + SLACK and self.p90 <= SLOWER * idle.p90 + 5 * SLACK

    def __str__(self) -> str:
        return (
            f"median {self.median * 1000:.1f} ms, p90 {self.p90 * 1000:.1f} ms, "
            f"most {max(self.seconds) * 1000:.1f} ms, n {len(self.seconds)}"
        )


async def measure(
    connection: Any,
    receiver: Receiver,
    *,
    tenant: str,
    count: int = EVENTS,
    also: Sequence["asyncio.Future[Any]"] = (),
    check: Callable[[], None] = lambda: None,
) -> Latencies:
    """Insert events of type `single`, each when the one before has come to `/good`; at least `count`, and until `also` is done.

    `check` is called after each.
    """
    clock = asyncio.get_running_loop().time
    seconds: list[float] = []
    while len(seconds) < count or not all(work.done() for work in also):
        came = len(receiver.at("/good"))
        inserted_at = clock()
        await insert_event(connection, "single", tenant=tenant)
        *_, request = await receiver.wait_for(came + 1, timeout=60, path="/good")
        seconds.append(request.at - inserted_at)
        check()
    return Latencies(seconds)
