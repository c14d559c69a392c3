"""Merge walks along indexes into one list, the newest first, window by window and up to a bound. Knows no tables."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.store.calls import Haul, Place, Sifted

WINDOW = 250
"""Rows looked at first where not all of them pass, and in one go at least."""

GROWTH = 4
"""A rare find costs few round trips so."""

Look = Callable[[Place, int, int], Awaitable[Haul]]
"""Go on behind a place: look at so many rows, and return at most so many of what passes."""


@dataclass(slots=True)
class Source:
    """One walk, as far as it has come."""

    look: Look
    place: Place
    """Behind it lies all that has not been handed out."""
    first: int
    """Rows to look at first."""
    widest: int
    """Rows to look at in one go, at most."""
    rows: deque[Sifted] = field(default_factory=deque)
    ahead: Place | None = field(init=False)
    """Where the next window begins, once `rows` are used up; null: there is none."""

    def __post_init__(self) -> None:
        self.ahead = self.place

    @property
    def is_done(self) -> bool:
        """Whether nothing is to come."""
        return not self.rows and self.ahead is None

    @property
    def next(self) -> Place:
        """What is to come stands here or behind."""
        return self.rows[0].place if self.rows else self.ahead or self.place

    def take(self) -> Sifted:
        """Hand out the next row."""
        row = self.rows.popleft()
        self.place = row.place if self.rows or self.ahead is None else self.ahead
        return row

    async def fill(self, limit: int, *, most: int) -> int:
        """Look at the next window, of at most `most` rows; returns how many rows that were."""
        assert self.ahead is not None
        size = min(self.first, self.widest, max(most, WINDOW))
        self.first *= GROWTH
        haul = await self.look(self.ahead, size, limit)
        self.rows.extend(haul.rows)
        if len(haul.rows) == limit:
            self.ahead = haul.rows[-1].place
        else:
            self.ahead = haul.edge if haul.walked == size else None
        if not self.rows and self.ahead is not None:
            self.place = self.ahead
        return haul.walked


class Merge:
    """Sources as one list. `key` orders places; each source is in that order, or nearly so."""

    def __init__(self, sources: Sequence[Source], key: Callable[[Place], Any]) -> None:
        self._sources = sources
        self._key = key

    async def run(self, limit: int, *, most: int) -> list[Sifted]:
        """Return the next rows, at most `limit`, having looked at `most` or a few more; at least it comes further."""
        found: list[Sifted] = []
        examined = 0
        start = [source.place for source in self._sources]
        while len(found) < limit:
            live = [source for source in self._sources if not source.is_done]
            if not live:
                break
            source = max(live, key=lambda one: self._key(one.next))
            if source.rows:
                found.append(source.take())
            elif examined < most or [one.place for one in self._sources] == start:
                examined += await source.fill(limit + 1, most=most - examined)
            else:
                break
        return found

    @property
    def reached(self) -> Place | None:
        """Where it stopped: all before was searched; null: there is no more."""
        live = [source.next for source in self._sources if not source.is_done]
        return max(live, key=self._key) if live else None
