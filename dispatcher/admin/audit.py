"""The log of what people did in the console, written in the same transaction as what they did."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from dispatcher.admin.base import Base
from dispatcher.admin.events import limit_of
from dispatcher.errors import InvalidInput
from dispatcher.store import audit as store
from dispatcher.store.audit import AuditRow, Deed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some of what was done, the latest first."""

    entries: tuple[AuditRow, ...]
    next_cursor: str | None
    """Hand it in to read on; null at the end."""


class AuditAdmin(Base):
    """Note what people do, and show it."""

    async def audited(self, deed: Deed | Callable[[T], Deed], act: Callable[[Self], Awaitable[T]]) -> T:
        """Act, with the `Admin` that `act` is given, and note it: both or neither.

        `deed` may be made of what came of it, where only that tells the id.

        Not for what speaks to subscribers, which no transaction may wait for: see `note`.
        """
        async with self._transaction() as connection:
            done = await act(self._joining(connection))
            await store.insert(connection, deed(done) if callable(deed) else deed, now=self._now())
        return done

    async def note(self, deed: Deed) -> None:
        """Note what was done, or is about to be."""
        async with self._transaction() as connection:
            await store.insert(connection, deed, now=self._now())

    async def audit_page(
        self, *, target: str | None = None, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        """Return what was done, the latest first: to one thing, to a tenant's things, or all."""
        checked = limit_of(limit)
        async with self._reading() as connection:
            rows = await store.entries(
                connection, before=_before(cursor), limit=checked + 1, target=target, tenant=tenant
            )
        page = tuple(rows[:checked])
        return AuditPage(page, str(page[-1].id) if len(rows) > checked else None)


def _before(cursor: str | None) -> int:
    if cursor is None:
        return store.LAST
    if not cursor.isascii() or not cursor.isdigit() or not 0 < int(cursor) <= store.LAST:
        raise InvalidInput("The cursor is not one of this list. Leave it out to begin.", field="cursor")
    return int(cursor)
