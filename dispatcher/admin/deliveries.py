"""Deliveries and their attempts, and what a person may do with them."""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.admin.base import Base
from dispatcher.admin.results import DeliveryDetails, DeliveryPage
from dispatcher.model import DeliveryId, DeliveryState, EndpointId
from dispatcher.store.history import AttemptRow, DeliveryRow


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
        """Return a page of deliveries."""
        raise NotImplementedError

    async def delivery(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> DeliveryDetails:
        """Return a delivery with its attempts."""
        raise NotImplementedError

    async def retry_delivery(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> DeliveryRow:
        """Send again at once: a pending delivery is due now, a finished one gets a new one, which is returned."""
        raise NotImplementedError

    async def cancel_delivery(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> DeliveryRow:
        """Give up a pending delivery; it goes to history as cancelled."""
        raise NotImplementedError

    async def wait_for_attempt(
        self,
        delivery_id: DeliveryId,
        timeout: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> AttemptRow | None:
        """Wait for a delivery's first attempt, at most `timeout` seconds; None if none was made."""
        raise NotImplementedError
