"""The shapes of requests and answers: what is read is checked by them, and the OpenAPI document is made from them.

Rules that need more than one look at a value are `admin`'s. What answers look like is decided in `admin.views`; the models
of answers describe it, and a fuzzer holds both together.
"""

from dispatcher.api.models.base import ProblemShown
from dispatcher.api.models.deliveries import (
    AttemptsQuery,
    DeliveryAttemptDetails,
    DeliveryAttempts,
    Replay,
    ReplayCount,
    ReplayDraft,
    ReplaysQuery,
    SendQuery,
)
from dispatcher.api.models.events import Event, EventBatch, EventTypes, Explanation, NewEvent, SentEvent, SentEvents
from dispatcher.api.models.portal import PortalLink, PortalLinkDraft
from dispatcher.api.models.webhooks import (
    CreatedWebhook,
    Listing,
    Rotation,
    Secrets,
    Webhook,
    WebhookChanges,
    WebhookDraft,
    WebhookOptions,
)

__all__ = [
    "AttemptsQuery",
    "CreatedWebhook",
    "DeliveryAttemptDetails",
    "DeliveryAttempts",
    "Event",
    "EventBatch",
    "EventTypes",
    "Explanation",
    "Listing",
    "NewEvent",
    "PortalLink",
    "PortalLinkDraft",
    "ProblemShown",
    "Replay",
    "ReplayCount",
    "ReplayDraft",
    "ReplaysQuery",
    "Rotation",
    "Secrets",
    "SendQuery",
    "SentEvent",
    "SentEvents",
    "Webhook",
    "WebhookChanges",
    "WebhookDraft",
    "WebhookOptions",
]
