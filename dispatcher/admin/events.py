"""Events, as producers without SQL send them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from dispatcher.admin import checks
from dispatcher.admin.base import Base
from dispatcher.admin.inputs import NewEvent
from dispatcher.doorkeeper import Mode
from dispatcher.errors import Conflict, InvalidInput, NotFound
from dispatcher.model import DeliveryId, EndpointId, EndpointState, EventId
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import history, manual
from dispatcher.store.history import EventRow

TEST_EVENT = "test.created"

MOST_LISTED = 1000
"""Of anything at once; more are read page by page."""

LOOK_BACK = timedelta(days=1)
"""How far a list of events goes back unless told otherwise: the outbox is kept by day and has no index by tenant."""


class EventsAdmin(Base):
    """Send and show events."""

    async def send_event(self, event: NewEvent) -> EventId | None:
        """Insert an event into the outbox and commit; None: its idempotency key was used already.

        The tenant need not be registered, as for any producer.
        """
        _check_text(event)
        async with self._transaction() as connection:
            await self._hold_against_catalog(connection, event)
            inserted = await _insert(connection, event)
        return None if inserted is None else inserted.id

    async def send_events(self, events: Sequence[NewEvent], *, field: str = "events") -> list[EventId | None]:
        """Insert events in one transaction, all or none; see `send_event`.

        A refusal names the first event that is to blame, as `events/3/payload`.
        """
        seen: set[EventId] = set()
        for number, event in enumerate(events):
            with _blaming(f"{field}/{number}"):
                _check_text(event)
                if event.id in seen:
                    raise InvalidInput("Two events have this id. Each needs its own.", field="id")
            if event.id is not None:
                seen.add(event.id)
        async with self._transaction() as connection:
            for number, event in enumerate(events):
                with _blaming(f"{field}/{number}"):
                    await self._hold_against_catalog(connection, event)
            try:
                async with connection.transaction():
                    return await manual.insert_events(connection, [_row(event) for event in events])
            except InvalidInput:
                # one statement does not say which of its rows is to blame; one by one they do
                for number, event in enumerate(events):
                    with _blaming(f"{field}/{number}"):
                        await _insert(connection, event)
                raise

    async def _hold_against_catalog(self, connection: Any, event: NewEvent) -> None:
        """Refuse what the catalogue speaks against, if it is to be enforced; what is only warned of is told by fan-out."""
        if self._doorkeeper.mode is Mode.ENFORCE:
            (reason,) = await self._doorkeeper.judge(connection, [(event.event_type, event.payload)])
            if reason is not None:
                catalog = await self._doorkeeper.catalog(connection, may_be_old=True)
                known = event.event_type in catalog.names
                raise InvalidInput(reason, field="payload" if known else "event_type")

    async def event(self, event_id: EventId, *, tenant: str | None = None) -> EventRow:
        """Return an event."""
        async with self._reading() as connection:
            return await find_event(connection, event_id, tenant)

    async def list_events(
        self,
        tenant: str | None = None,
        *,
        event_type: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        refused: bool = False,
    ) -> list[EventRow]:
        """Return events, or only refused ones, the latest first: those inserted after `since`, or within the last day."""
        checked = limit_of(limit)
        since = since or (self._now() or datetime.fromtimestamp(self._clock.now(), UTC)) - LOOK_BACK
        async with self._reading() as connection:
            read = history.refused_events if refused else history.events
            return await read(connection, since=since, tenant=tenant, event_type=event_type, limit=checked)

    async def test_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> DeliveryId:
        """Send `test.created` to one webhook alone, subscribed or not; see `wait_for_attempt`.

        Its payload is that of Healthie's, with the webhook's id as `resource_id`.
        """
        async with self._transaction() as connection:
            endpoint = await self._endpoint(connection, webhook_id, tenant)
            refuse_unusable(endpoint)
            if endpoint.state is EndpointState.PAUSED:
                raise Conflict(
                    f"The webhook {webhook_id} is paused, so that nothing is sent. Use `dispatcher webhook resume "
                    f"{webhook_id}` first.",
                    field="state",
                )
            payload = {
                "resource_id": str(webhook_id),
                "resource_id_type": "Test",
                "event_type": TEST_EVENT,
                "changed_fields": [],
            }
            inserted = await manual.insert_event(
                connection, tenant=endpoint.tenant, event_type=TEST_EVENT, payload=orjson.dumps(payload).decode()
            )
            assert inserted is not None  # it has no idempotency key
            taken = await manual.take_unread(connection, inserted)
            assert taken, "the test event must not be fanned out to all subscribers"
            delivery_id = await manual.insert_delivery(
                connection, webhook_id, inserted.id, event_at=inserted.inserted_at, now=self._now()
            )
            await endpoint_store.touch(connection, [webhook_id])
        return delivery_id


async def find_event(connection: Any, event_id: EventId, tenant: str | None) -> EventRow:
    """Look an event up; another tenant's is as if it did not exist."""
    event = await history.event(connection, event_id)
    if event is None or tenant not in (None, event.tenant):
        raise NotFound(
            f"There is no event {event_id}, or it is past retention. `dispatcher event list` shows the latest."
        )
    return event


def refuse_unusable(endpoint: endpoint_store.EndpointRow) -> None:
    """Refuse what would be sent to an endpoint that gets nothing any more."""
    if endpoint.archived_at is not None:
        raise Conflict(f"The webhook {endpoint.id} is archived and gets nothing any more.", field="webhook")
    if endpoint.state is EndpointState.DISABLED:
        raise Conflict(
            f"The webhook {endpoint.id} is disabled. Use `dispatcher webhook enable {endpoint.id}` first.",
            field="webhook",
        )


def limit_of(limit: int) -> int:
    """Check how many of something are asked for."""
    if not 1 <= limit <= MOST_LISTED:
        raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
    return limit


def _row(event: NewEvent) -> manual.OutboxRow:
    return manual.OutboxRow(
        id=event.id,
        tenant=event.tenant,
        event_type=event.event_type,
        payload=event.payload,
        occurred_at=event.occurred_at,
        deliver_at=event.deliver_at,
        expires_at=event.expires_at,
        idempotency_key=event.idempotency_key,
        ordering_key=event.ordering_key,
    )


async def _insert(connection: Any, event: NewEvent) -> manual.Inserted | None:
    return await manual.insert_event(
        connection,
        tenant=event.tenant,
        event_type=event.event_type,
        payload=event.payload,
        event_id=event.id,
        occurred_at=event.occurred_at,
        deliver_at=event.deliver_at,
        expires_at=event.expires_at,
        idempotency_key=event.idempotency_key,
        ordering_key=event.ordering_key,
    )


@contextmanager
def _blaming(place: str) -> Iterator[None]:
    """Say where the thing stands that is refused."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(str(error), field=place if error.field is None else f"{place}/{error.field}") from None


def _check_text(event: NewEvent) -> None:
    """Refuse what cannot even be sent to Postgres; the rest is the table's to judge."""
    for field in ("tenant", "event_type", "payload", "idempotency_key", "ordering_key"):
        text = getattr(event, field)
        if text is not None and not checks.is_storable(text):
            raise InvalidInput(
                f"`{field}` holds a NUL character or half a surrogate pair, which Postgres cannot store. Leave it out.",
                field=field,
            )
