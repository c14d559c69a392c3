"""Says what became of an event, endpoint by endpoint, and why."""

from dispatcher.admin.base import Base
from dispatcher.admin.results import Explanation
from dispatcher.model import EventId


class ExplainAdmin(Base):
    """Answer every "why"."""

    async def explain(self, event_id: EventId, *, tenant: str | None = None) -> Explanation:
        """Explain what became of an event."""
        raise NotImplementedError
