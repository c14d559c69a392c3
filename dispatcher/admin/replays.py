"""Replays: lasting jobs that send finished deliveries of a webhook again."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from dispatcher.admin import checks
from dispatcher.admin.base import Base, shortened
from dispatcher.admin.events import limit_of, refuse_unusable
from dispatcher.admin.results import ReplayCount
from dispatcher.errors import Conflict, InvalidInput, NotFound
from dispatcher.model import DeathReason, DeliveryState, EndpointId, ReplayId, UnreachableReason
from dispatcher.store import replays as store
from dispatcher.store.replays import Fate, ReplayRow, ReplayState, Wanted

REPLAYABLE = (DeliveryState.DEAD, DeliveryState.CANCELLED, DeliveryState.DELIVERED)
"""States whose deliveries can be sent again; what is pending is under way."""

PAGE = 5000
"""Finished deliveries counted in one statement: some tenths of a second."""

MOST_COUNTED = 20_000
"""Finished deliveries looked at for a count: a second. Someone waits for the answer, and the job itself counts all."""

BLOCKED = "blocked"
"""The class of what the address policy forbade."""

_CAUSES = (*UnreachableReason, BLOCKED, *DeathReason)
_STATUS = re.compile(r"[1-5]([0-9]{2}|xx)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDraft:
    """A replay to be created: what finished deliveries to send again, of the events of a time."""

    states: Sequence[str] = (DeliveryState.DEAD,)
    since: datetime | None = None
    """Of events inserted from this instant on; null: however old."""
    until: datetime | None = None
    """Of events inserted before this instant; null: however young."""
    types: Sequence[str] = ()
    """Of these event types or patterns; none: of all."""
    causes: Sequence[str] = ()
    """What the last attempt or the death came to: `timeout`, `503`, `5xx`, `endpoint_disabled`; none: anything."""
    rate: float | None = None
    """New deliveries a second; null: as many as the endpoint takes."""


class ReplaysAdmin(Base):
    """Create, show, list and cancel replays."""

    async def count_replay(
        self, webhook_id: EndpointId, draft: ReplayDraft, *, tenant: str | None = None
    ) -> ReplayCount:
        """Tell what a replay would come to, as far as MOST_COUNTED goes, and change nothing."""
        wanted, _ = _checked(draft)
        async with self._reading() as connection:
            refuse_unusable(await self._endpoint(connection, webhook_id, tenant))
            return await self._count(connection, webhook_id, wanted)

    async def create_replay(
        self, webhook_id: EndpointId, draft: ReplayDraft, *, tenant: str | None = None
    ) -> ReplayRow:
        """Create a replay of deliveries that have ended by now. It survives restarts, and runs while a worker does."""
        wanted, rate = _checked(draft)
        async with self._transaction() as connection:
            refuse_unusable(await self._endpoint(connection, webhook_id, tenant))
            count = await self._count(connection, webhook_id, wanted)
            replay_id = await store.insert(
                connection,
                webhook_id,
                wanted,
                rate=rate,
                expected=count.fates.get(Fate.REPLAYED, 0),
                expected_exact=count.exact,
                now=self._now(),
            )
            return await self._replay(connection, replay_id, tenant)

    async def replay(self, replay_id: ReplayId, *, tenant: str | None = None) -> ReplayRow:
        """Return a replay with how far it has come."""
        async with self._reading() as connection:
            return await self._replay(connection, replay_id, tenant)

    async def list_replays(
        self, *, webhook: EndpointId | None = None, tenant: str | None = None, limit: int = 50
    ) -> list[ReplayRow]:
        """Return replays, the latest first."""
        checked = limit_of(limit)
        async with self._reading() as connection:
            if webhook is not None:
                await self._endpoint(connection, webhook, tenant)
            elif tenant is not None:
                await self._tenant(connection, tenant)
            return await store.several(connection, endpoint_id=webhook, tenant=tenant, limit=checked)

    async def cancel_replay(self, replay_id: ReplayId, *, tenant: str | None = None) -> ReplayRow:
        """End a replay; the deliveries that it has made stay. To cancel it again changes nothing."""
        async with self._transaction() as connection:
            replay = await self._replay(connection, replay_id, tenant)
            if replay.state is ReplayState.DONE:
                raise Conflict(f"The replay {replay_id} is done; there is nothing left to cancel.", field="id")
            await store.cancel(connection, replay_id, "By a person.", now=self._now())
            return await self._replay(connection, replay_id, tenant)

    async def _replay(self, connection: Any, replay_id: ReplayId, tenant: str | None) -> ReplayRow:
        """Look a replay up; another tenant's is as if it did not exist."""
        replay = await store.one(connection, replay_id)
        if replay is None or tenant not in (None, replay.tenant):
            raise NotFound(f"There is no replay {replay_id}. `dispatcher replay list` shows all.")
        return replay

    async def _count(self, connection: Any, webhook_id: EndpointId, wanted: Wanted) -> ReplayCount:
        fates: Counter[Fate] = Counter()
        looked = 0
        place = store.Place(wanted.since or store.DAWN, store.FIRST)
        while True:
            page = await store.page(
                connection, webhook_id, wanted, behind=place, until=None, limit=PAGE, now=self._now()
            )
            fates.update(ended.fate for ended in page if ended.fate is not None)
            looked += len(page)
            if len(page) < PAGE or looked >= MOST_COUNTED:
                return ReplayCount(dict(fates), exact=len(page) < PAGE)
            place = page[-1].place


def _checked(draft: ReplayDraft) -> tuple[Wanted, float | None]:
    if draft.since is not None and draft.until is not None and draft.since >= draft.until:
        raise InvalidInput("`since` must lie before `until`.", field="since")
    wanted = Wanted(
        states=_states(draft.states),
        since=draft.since,
        until=draft.until,
        patterns=checks.patterns(draft.types, field="types", what="An event type") if draft.types else None,
        causes=_causes(draft.causes) if draft.causes else None,
    )
    return wanted, checks.rate(draft.rate, field="rate")


def _states(states: Sequence[str]) -> tuple[DeliveryState, ...]:
    known = ", ".join(REPLAYABLE)
    if not states:
        raise InvalidInput(f"A replay needs at least one state of: {known}.", field="states")
    for state in states:
        if state not in REPLAYABLE:
            raise InvalidInput(f"`{shortened(state)}` cannot be replayed. States that can: {known}.", field="states")
    return tuple(dict.fromkeys(DeliveryState(state) for state in states))


def _causes(causes: Sequence[str]) -> tuple[str, ...]:
    for cause in causes:
        if cause not in _CAUSES and not _STATUS.fullmatch(cause):
            near = get_close_matches(cause, _CAUSES, n=1)
            hint = f"Did you mean `{near[0]}`? " if near else ""
            raise InvalidInput(
                f"`{shortened(cause)}` is no cause. {hint}There are statuses (`503`, `5xx`) and {', '.join(_CAUSES)}.",
                field="causes",
            )
    return tuple(dict.fromkeys(str(cause) for cause in causes))
