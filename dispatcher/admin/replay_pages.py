"""The list of replays over all endpoints, the latest first, page by page.

`Admin.replay_page(*, tenant=None, webhook=None, state=None, limit=50, cursor=None) -> ReplayPage(replays: tuple[ListedReplay(replay:
ReplayRow, url), …], next_cursor)`. How far one has come: `replay.fates` against `replay.expected`. What can be done with replays
is in `replays`: `count_replay`, `create_replay`, `replay`, `cancel_replay`.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from dispatcher.admin import cursors
from dispatcher.admin.base import Base
from dispatcher.errors import InvalidInput
from dispatcher.model import EndpointId, ReplayId
from dispatcher.store import replays as store
from dispatcher.store.replays import ReplayRow, ReplayState

MOST_LISTED: Final = 250
"""On one page."""

_KIND = "replays"
_TOP: Final = ReplayId(UUID(int=2**128 - 1))


@dataclass(frozen=True, slots=True)
class ListedReplay:
    """A replay and where it sends to."""

    replay: ReplayRow
    url: str


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """Some replays, the latest first."""

    replays: tuple[ListedReplay, ...]
    next_cursor: str | None
    """Hand it in, with the same filters, to read on; null at the end."""


class ReplayPagesAdmin(Base):
    """List replays."""

    async def replay_page(
        self,
        *,
        tenant: str | None = None,
        webhook: EndpointId | None = None,
        state: ReplayState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ReplayPage:
        """Return a page of replays (`limit` is 1 to 250), the latest first. Raises InvalidInput, NotFound."""
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        below = _TOP if cursor is None else _read(cursor)
        async with self._reading() as connection:
            if webhook is not None:
                await self._endpoint(connection, webhook, tenant)
            elif tenant is not None:
                await self._tenant(connection, tenant)
            # one more than asked for tells whether there is a next page
            found = await store.listed(
                connection, below=below, endpoint_id=webhook, tenant=tenant, state=state, limit=limit + 1
            )
        page = tuple(ListedReplay(replay, url) for replay, url in found[:limit])
        return ReplayPage(page, cursors.written(_KIND, str(page[-1].replay.id)) if len(found) > limit else None)


def _read(cursor: str) -> ReplayId:
    (replay_id,) = cursors.read(cursor, _KIND, 1)
    try:
        return ReplayId(UUID(replay_id))
    except (ValueError, TypeError, AttributeError):
        raise cursors.bad() from None
