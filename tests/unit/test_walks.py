"""Merged walks: every row once, in order, however the windows fall and wherever a page ends."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.admin.walks import Merge, Source
from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId
from dispatcher.store.calls import TOP, Haul, Place, Sifted

AT = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int) -> Sifted:
    """A delivery with this id."""
    return Sifted(
        id=DeliveryId(number),
        endpoint_id=EndpointId(UUID(int=1)),
        event_id=EventId(UUID(int=1)),
        event_at=AT,
        created_at=AT,
        attempts=0,
        manual=False,
        state=DeliveryState.PENDING,
        reason=None,
        due_at=None,
        finished_at=None,
        status=None,
        error=None,
    )


def source(ids: Sequence[int], passing: set[int], *, place: Place, first: int, widest: int) -> Source:
    """A walk over these ids, the highest first, of which some pass."""

    async def look(behind: Place, size: int, limit: int) -> Haul:
        window = sorted((one for one in ids if one < behind.id), reverse=True)[:size]
        rows = [row(one) for one in window if one in passing][:limit]
        return Haul(tuple(rows), len(window), row(window[-1]).place if window else None)

    return Source(look, place, first, widest)


@given(
    ids=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60),
    first=st.integers(1, 5),
    widest=st.integers(1, 50),
    limit=st.integers(1, 10),
    most=st.integers(1, 30),
)
def test_pages_make_up_the_whole_list(
    ids: list[tuple[bool, bool]], first: int, widest: int, limit: int, most: int
) -> None:
    """Of two walks, some of whose rows pass; a page that looked at enough is short, and the next goes on."""
    left = [number for number, (is_left, _) in enumerate(ids, 1) if is_left]
    right = [number for number, (is_left, _) in enumerate(ids, 1) if not is_left]
    passing = {number for number, (_, passes) in enumerate(ids, 1) if passes}

    async def pages() -> list[int]:
        found: list[int] = []
        places = [TOP, TOP]
        for _ in range(1000):
            sources = [
                source(one, passing, place=place, first=first, widest=widest)
                for one, place in zip((left, right), places, strict=True)
            ]
            merge = Merge(sources, lambda place: place.id)
            found += [one.id for one in await merge.run(limit, most=most)]
            if merge.reached is None:
                return found
            places = [one.place for one in sources]
        raise AssertionError(found)

    assert asyncio.run(pages()) == sorted(passing, reverse=True)
