"""Endpoints, which tenants know as webhooks: their settings, states and secrets."""

from dispatcher.admin.base import Base
from dispatcher.admin.inputs import WebhookChanges, WebhookDraft
from dispatcher.model import EndpointId
from dispatcher.store.endpoints import EndpointRow, SecretRow


class EndpointsAdmin(Base):
    """Create, change and archive webhooks; pause, disable, rotate secrets."""

    async def create_webhook(self, tenant: str, draft: WebhookDraft) -> EndpointRow:
        """Create a webhook; the answer alone holds its `secret`."""
        raise NotImplementedError

    async def list_webhooks(self, tenant: str | None = None, *, include_archived: bool = False) -> list[EndpointRow]:
        """Return a tenant's webhooks, or all, the oldest first."""
        raise NotImplementedError

    async def webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Return a webhook, archived or not."""
        raise NotImplementedError

    async def update_webhook(
        self, webhook_id: EndpointId, changes: WebhookChanges, *, tenant: str | None = None
    ) -> EndpointRow:
        """Change some fields."""
        raise NotImplementedError

    async def archive_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Take a webhook out of use for good; its pending deliveries are cancelled."""
        raise NotImplementedError

    async def pause_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Hold deliveries back: events still match and wait."""
        raise NotImplementedError

    async def resume_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """End a pause: what waits is sent."""
        raise NotImplementedError

    async def enable_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Use a disabled webhook again, with its health forgotten."""
        raise NotImplementedError

    async def disable_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Stop a webhook: nothing matches it; what is pending dies (replayable)."""
        raise NotImplementedError

    async def rotate_secret(
        self, webhook_id: EndpointId, *, secret: str | None = None, overlap: float = 86400.0, tenant: str | None = None
    ) -> str:
        """Give a webhook a new secret, which is returned; old ones sign beside it for `overlap` seconds (0 to 7 days)."""
        raise NotImplementedError

    async def webhook_secrets(self, webhook_id: EndpointId, *, tenant: str | None = None) -> list[SecretRow]:
        """Return the secrets in use, the current one first."""
        raise NotImplementedError
