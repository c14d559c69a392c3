"""Makes small pictures of how an endpoint has done: a bar an hour, what succeeded below what failed; SVG draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 120
HEIGHT: Final = 28
"""Of the picture, in its own units; console.css says how large it is shown."""

GAP: Final = 1

LEAST: Final = 2.0
"""Of a bar that stands for anything: one failure among thousands is the one to be seen."""

IDLE: Final = 1.0
"""Of an hour in which nothing was sent."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle."""

    kind: str
    """`ok`, `failed` or `none`: its class."""
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A picture, and what it says in words."""

    bars: tuple[Bar, ...]
    ok: int
    failed: int

    @property
    def words(self) -> str:
        """Say it to who does not see it."""
        if not self.ok + self.failed:
            return "nothing was sent in 24 hours"
        return f"{self.ok} succeeded and {self.failed} failed in 24 hours"


def sparkline(ok: Sequence[int], failed: Sequence[int]) -> Sparkline:
    """Draw attempts that succeeded and that failed, hour by hour; the highest bar fills the height."""
    most = max((good + bad for good, bad in zip(ok, failed, strict=True)), default=0)
    step = WIDTH / max(1, len(ok))
    bars: list[Bar] = []
    for number, (good, bad) in enumerate(zip(ok, failed, strict=True)):
        x, width = round(number * step, 2), round(step - GAP, 2)
        if not good + bad:
            bars.append(Bar("none", x, HEIGHT - IDLE, width, IDLE))
            continue
        low, high = _height(good, most), _height(bad, most)
        low = min(low, HEIGHT - high)  # what failed is seen, whatever else
        if good:
            bars.append(Bar("ok", x, round(HEIGHT - low, 2), width, round(low, 2)))
        if bad:
            bars.append(Bar("failed", x, round(HEIGHT - low - high, 2), width, round(high, 2)))
    return Sparkline(tuple(bars), sum(ok), sum(failed))


def _height(count: int, most: int) -> float:
    return max(LEAST, count / most * HEIGHT) if count else 0.0
