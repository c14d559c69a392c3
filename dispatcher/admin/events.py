"""Events, as producers without SQL send them."""

from dispatcher.admin.base import Base
from dispatcher.admin.inputs import NewEvent
from dispatcher.model import DeliveryId, EndpointId, EventId
from dispatcher.store.history import EventRow


class EventsAdmin(Base):
    """Send and show events."""

    async def send_event(self, event: NewEvent) -> EventId | None:
        """Insert an event into the outbox and commit; None: its idempotency key was used already."""
        raise NotImplementedError

    async def event(self, event_id: EventId, *, tenant: str | None = None) -> EventRow:
        """Return an event."""
        raise NotImplementedError

    async def list_events(
        self, tenant: str | None = None, *, event_type: str | None = None, limit: int = 50
    ) -> list[EventRow]:
        """Return events, the latest first."""
        raise NotImplementedError

    async def test_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> DeliveryId:
        """Send `test.created` to one webhook alone, subscribed or not; see `wait_for_attempt`."""
        raise NotImplementedError
