"""Deliveries and their attempts, and what a person may do with them."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from dispatcher.admin.base import Base
from dispatcher.admin.bodies import with_bodies
from dispatcher.admin.events import limit_of, refuse_unusable
from dispatcher.admin.results import DeliveryDetails, DeliveryPage
from dispatcher.errors import Conflict, InvalidInput, NotFound
from dispatcher.model import DeliveryId, DeliveryState, EndpointId
from dispatcher.store import deliveries as delivery_store
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import history, log, manual, outbox
from dispatcher.store import statistics as statistics_store
from dispatcher.store.history import AttemptRow, DeliveryRow

POLL = 0.05
"""Seconds between two looks for an attempt: a person does not feel it, and each look is one read by key."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page ended: among the pending or the finished ones, behind which instant and id."""

    in_finished: bool = False
    after: tuple[datetime, DeliveryId] | None = None

    @classmethod
    def behind(cls, row: DeliveryRow) -> "_Place":
        if row.finished_at is not None:
            return cls(in_finished=True, after=(row.finished_at, row.id))
        return cls(in_finished=False, after=(row.due_at or history.DUSK, row.id))

    @classmethod
    def read(cls, cursor: str | None) -> "_Place":
        if cursor is None:
            return cls()
        try:
            in_finished, instant, delivery_id = orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
            return cls(
                bool(in_finished), (datetime.fromisoformat(instant).astimezone(UTC), DeliveryId(int(delivery_id)))
            )
        except (ValueError, TypeError, OverflowError):
            raise InvalidInput(
                "The cursor is not one of ours. Take it from the page before, or leave it out to begin.", field="cursor"
            ) from None

    def written(self) -> str:
        assert self.after is not None
        instant, delivery_id = self.after
        return base64.urlsafe_b64encode(orjson.dumps([self.in_finished, instant.isoformat(), delivery_id])).decode()


class DeliveriesAdmin(Base):
    """List, show, retry and cancel deliveries."""

    async def deliveries(
        self,
        *,
        webhook: EndpointId | None = None,
        tenant: str | None = None,
        state: DeliveryState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """Return a page of deliveries: pending ones, the soonest due first, then finished ones, the latest first."""
        checked = limit_of(limit)
        place = _Place.read(cursor)
        rows: list[DeliveryRow] = []
        async with self._reading() as connection:
            if webhook is not None:
                await self._endpoint(connection, webhook, tenant)
            elif tenant is not None:
                await self._tenant(connection, tenant)
            lanes = await history.lanes(connection, endpoint_id=webhook, tenant=tenant)
            # one more than asked for tells whether there is a next page
            if state in (None, DeliveryState.PENDING) and not place.in_finished:
                rows = await history.pending(connection, lanes, after=place.after, limit=checked + 1)
            if state is not DeliveryState.PENDING and len(rows) <= checked:
                after = place.after if place.in_finished else None
                rest = checked + 1 - len(rows)
                rows += await history.finished(connection, lanes, state=state, after=after, limit=rest)
            page = await _with_last_attempts(connection, rows[:checked])
        return DeliveryPage(page, _Place.behind(page[-1]).written() if len(rows) > checked else None)

    async def delivery(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> DeliveryDetails:
        """Return a delivery with its attempts."""
        async with self._reading() as connection:
            delivery = await self._delivery(connection, delivery_id, tenant)
            attempts = await history.attempts(connection, [delivery_id])
            event = await history.event(connection, delivery.event_id)
            whole = await with_bodies(connection, attempts, event)
        return DeliveryDetails(delivery, whole, event)

    async def retry_delivery(
        self, delivery_id: DeliveryId, *, notify: bool = False, tenant: str | None = None
    ) -> DeliveryRow:
        """Send again at once: a pending delivery is due now, a finished one gets a new one, which is returned.

        `notify`: a notice shall follow if that fails.
        """
        async with self._transaction() as connection:
            delivery = await self._delivery(connection, delivery_id, tenant)
            refuse_unusable(await self._endpoint(connection, delivery.endpoint_id, tenant))
            if delivery.state is DeliveryState.PENDING:
                await self._make_due(connection, delivery, notify=notify)
            else:
                delivery_id = await self._repeat(connection, delivery, notify=notify)
            await endpoint_store.touch(connection, [delivery.endpoint_id])
            return await self._delivery(connection, delivery_id, tenant)

    async def _make_due(self, connection: Any, delivery: DeliveryRow, *, notify: bool) -> None:
        if delivery.due_at is None:
            raise Conflict(
                f"The delivery {delivery.id} waits for an earlier one with the ordering key `{delivery.ordering_key}`. "
                "Retry or cancel that one.",
                field="id",
            )
        if not await manual.make_due(connection, delivery.id, delivery.shard, now=self._now(), notify=notify):
            raise Conflict(f"The delivery {delivery.id} has just ended. Look at it again.", field="id")

    async def _repeat(self, connection: Any, delivery: DeliveryRow, *, notify: bool) -> DeliveryId:
        if delivery.event_type is None:
            raise Conflict(
                f"The event {delivery.event_id} is past retention, and its payload with it; it cannot be sent again.",
                field="id",
            )
        return await manual.insert_delivery(
            connection,
            delivery.endpoint_id,
            delivery.event_id,
            event_at=delivery.event_at,
            now=self._now(),
            notify=notify,
        )

    async def cancel_delivery(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> DeliveryRow:
        """Give up a pending delivery; it goes to history as cancelled."""
        async with self._transaction() as connection:
            delivery = await self._delivery(connection, delivery_id, tenant)
            if delivery.state is not DeliveryState.PENDING:
                raise Conflict(
                    f"The delivery {delivery_id} is {delivery.state} already; only a pending one can be cancelled.",
                    field="id",
                )
            if delivery.ordering_key is not None:
                await outbox.lock_ordering(connection, [delivery.shard])
            if not await manual.cancel(connection, delivery_id, delivery.shard, now=self._now()):
                raise Conflict(f"The delivery {delivery_id} has just ended. Look at it again.", field="id")
            if delivery.ordering_key is not None:
                freed = [(delivery.endpoint_id, delivery.ordering_key)]
                await delivery_store.promote(connection, freed, now=self._now())
            await endpoint_store.touch(connection, [delivery.endpoint_id])
            cancelled = await self._delivery(connection, delivery_id, tenant)
            await statistics_store.write_cancelled(connection, 1, now=self._now())
            return cancelled

    async def wait_for_attempt(
        self,
        delivery_id: DeliveryId,
        timeout: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> AttemptRow | None:
        """Wait for a delivery's first attempt, at most `timeout` seconds; None if none was made."""
        deadline = self._clock.monotonic() + timeout
        while True:
            async with self._pool.acquire() as connection:
                attempts = await history.attempts(connection, [delivery_id])
            if attempts:
                return attempts[0]
            if self._clock.monotonic() >= deadline:
                return None
            await sleep(POLL)

    async def _delivery(self, connection: Any, delivery_id: DeliveryId, tenant: str | None) -> DeliveryRow:
        """Look a delivery up; another tenant's is as if it did not exist."""
        known = 0 < delivery_id <= history.LAST_ID
        delivery = await history.delivery(connection, delivery_id) if known else None
        if delivery is None or tenant not in (None, delivery.tenant):
            raise NotFound(
                f"There is no delivery {delivery_id}, or it is past retention. `dispatcher delivery list` shows them."
            )
        return delivery


async def _with_last_attempts(connection: Any, rows: Sequence[DeliveryRow]) -> tuple[DeliveryRow, ...]:
    """Tell of pending deliveries, too, what their last attempt came to."""
    last = await log.last_attempts(connection, [row for row in rows if row.state is DeliveryState.PENDING])
    return tuple(
        replace(row, status=last[row.id].status, error=last[row.id].error) if row.id in last else row for row in rows
    )
