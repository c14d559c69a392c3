"""The live tail: the newest attempts behind a mark, again and again.

`Admin.attempts_since(mark: str | None, chosen: TailFilter, *, tenant=None, limit=100) -> Tail(attempts: tuple[Tailed, …] the
newest first, left_out: int | None, mark: str)`; `Tailed` is in store/tail.py. Hand `mark` in for the next look; null begins
with the latest attempts there are. Look every second or two.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from dispatcher.admin import cursors
from dispatcher.admin.calls import CallsAdmin, statuses_of
from dispatcher.errors import InvalidInput
from dispatcher.model import EndpointId
from dispatcher.store import tail as store
from dispatcher.store.tail import Mark, Tailed, Wanted

MOST_TAILED: Final = 500
"""Attempts in one look: nobody reads more a second."""

LONGEST: Final = timedelta(seconds=45)
"""From the start of an attempt until it is written down: the deadline and some patience of the database. What took longer is
missing in the tail; the log has it."""

STALE: Final = timedelta(minutes=2)
"""After so long without a look the tail begins anew: what came meanwhile could be millions."""

LOOKED_UP: Final = 1000
"""Attempts that are told apart by the type of their event: some 20 ms."""

BEGINNINGS: Final = tuple(timedelta(seconds=4**power) for power in range(1, 6))
"""How far a tail looks back to begin with, until there is enough: 4 s, 16 s, … 17 minutes. A busy service has enough in 4 s."""

_KIND = "tail"
_SNAPSHOT = re.compile(r"([0-9]{1,18}):([0-9]{1,18}):((?:[0-9]{1,18}(?:,[0-9]{1,18})*)?)")
_VERDICTS = ("done", "retry", "give_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class TailFilter:
    """Which attempts are shown; null: no matter."""

    tenant: str | None = None
    """Whose endpoint it is; for operators."""
    webhook: EndpointId | None = None
    event_type: str | None = None
    status: str | None = None
    """HTTP status, `503`, or a class of them, `5xx`."""
    error_class: str | None = None
    """An `UnreachableReason`, or `blocked`."""
    verdict: str | None = None
    """`done`, `retry` or `give_up`."""


@dataclass(frozen=True, slots=True)
class Tail:
    """One look at the live tail."""

    attempts: tuple[Tailed, ...]
    """The newest first."""
    left_out: int | None
    """How many more came since the mark and are not shown (where a type is asked for, also those of other types); null: not
    known, because the tail began, or began anew."""
    mark: str
    """Hand it in at the next look."""


class TailAdmin(CallsAdmin):
    """Look at the live tail."""

    async def attempts_since(
        self, mark: str | None, chosen: TailFilter, *, tenant: str | None = None, limit: int = 100
    ) -> Tail:
        """Return the newest attempts (`limit` is 1 to 500) that were written down since the look that gave `mark`.

        Raises InvalidInput for a filter that cannot be meant or a mark that is none, NotFound as `calls` does.
        """
        if not 1 <= limit <= MOST_TAILED:
            raise InvalidInput(f"A limit is 1 to {MOST_TAILED}.", field="limit")
        if chosen.verdict not in (None, *_VERDICTS):
            raise InvalidInput(f"A verdict is one of {', '.join(_VERDICTS)}.", field="verdict")
        statuses = statuses_of(chosen.status, chosen.error_class)
        behind = None if mark is None else _read(mark)
        async with self._reading() as connection:
            lanes = await self._lanes(connection, chosen.webhook, chosen.tenant, tenant)
            wanted = Wanted(
                endpoints=None if lanes is None else tuple(lane.endpoint_id for lane in lanes),
                statuses=statuses,
                error_class=chosen.error_class,
                verdict=chosen.verdict,
                event_type=chosen.event_type,
            )
            here = await store.mark(connection, now=self._now())
            if behind is None or not here.at - STALE <= behind.at <= here.at:
                attempts, left_out = await _begin(connection, wanted, here, limit), None
            else:
                attempts, total = await store.latest(
                    connection,
                    wanted,
                    behind=behind.snapshot,
                    since=behind.at - LONGEST,
                    limit=limit,
                    looked_up=_looked_up(wanted, limit),
                )
                left_out = total - len(attempts)
        return Tail(tuple(attempts), left_out, cursors.written(_KIND, *here))


async def _begin(connection: Any, wanted: Wanted, here: Mark, limit: int) -> list[Tailed]:
    attempts: list[Tailed] = []
    for back in BEGINNINGS:
        attempts, total = await store.latest(
            connection,
            wanted,
            behind=None,
            since=here.at - back,
            limit=limit,
            looked_up=_looked_up(wanted, limit),
        )
        if total >= _looked_up(wanted, limit):
            break  # further back there are only older ones
    return attempts


def _looked_up(wanted: Wanted, limit: int) -> int:
    return limit if wanted.event_type is None else LOOKED_UP


def _read(mark: str) -> Mark:
    snapshot, at = cursors.read(mark, _KIND, 2)
    found = _SNAPSHOT.fullmatch(snapshot) if isinstance(snapshot, str) else None
    if found is None:
        raise cursors.bad(field="mark")
    first, last = int(found[1]), int(found[2])
    running = [int(number) for number in found[3].split(",")] if found[3] else []
    # what Postgres would not take for a snapshot
    if (
        first < 1
        or running != sorted(set(running))
        or not first <= min([last, *running])
        or max([first, *running]) > last
    ):
        raise cursors.bad(field="mark")
    return Mark(snapshot, cursors.instant(at))
