"""Operational events: what the service tells a tenant about its own webhooks, as events of the tenant's own outbox.

They are ordinary events to whoever subscribes to them, with two exceptions. `*` does not match them (a subscriber that
takes every business event is not to be surprised by them), only their own name or a pattern that begins with
`dispatcher.` does. And whatever comes of delivering one makes no other, so that they cannot feed on themselves.

Pure: when they are due is decided by those who make the change, and written by `store.operational` with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from dispatcher.model import DeliveryId, EndpointId, EventId

PREFIX = "dispatcher."
"""Of their types; the SQL function `patterns_of` knows it, too."""


class OperationalType(StrEnum):
    """What an operational event tells."""

    ENDPOINT_FAILING = "dispatcher.endpoint.failing"
    """Nothing but failures for so long that people are warned."""
    ENDPOINT_DISABLED = "dispatcher.endpoint.disabled"
    """It kept failing, asked for it, or a person did it; what was pending dies with it, without an event for each."""
    ENDPOINT_RECOVERED = "dispatcher.endpoint.recovered"
    """First success after `ENDPOINT_FAILING`."""
    DELIVERY_DEAD = "dispatcher.delivery.dead"
    """A delivery was given up, for another reason than that its endpoint was disabled."""


@dataclass(frozen=True, slots=True)
class OperationalEvent:
    """One event to be written if somebody wants it."""

    endpoint_id: EndpointId
    """Of whom it tells; its tenant's outbox takes it."""
    type: OperationalType
    data: Mapping[str, Any]
    """The payload, ready for any JSON writer."""


def is_operational(event_type: str | None) -> bool:
    """Whether an event is one of ours, whose delivery makes no other."""
    return event_type is not None and event_type.startswith(PREFIX)


def failing(
    endpoint_id: EndpointId, *, since: float | None, disable_at: float | None, status: int | None, error: str | None
) -> OperationalEvent:
    """Tell that an endpoint has failed for long; instants in unix seconds."""
    data = {"failingSince": _iso(since), "disableDate": _iso(disable_at), **_last(status, error)}
    return OperationalEvent(endpoint_id, OperationalType.ENDPOINT_FAILING, {"webhookId": str(endpoint_id), **data})


def disabled(
    endpoint_id: EndpointId, *, reason: str, status: int | None = None, error: str | None = None
) -> OperationalEvent:
    """Tell that an endpoint was disabled, and why."""
    data = {"webhookId": str(endpoint_id), "reason": reason, **_last(status, error)}
    return OperationalEvent(endpoint_id, OperationalType.ENDPOINT_DISABLED, data)


def recovered(endpoint_id: EndpointId) -> OperationalEvent:
    """Tell that an endpoint that had failed for long has succeeded."""
    return OperationalEvent(endpoint_id, OperationalType.ENDPOINT_RECOVERED, {"webhookId": str(endpoint_id)})


def dead(
    endpoint_id: EndpointId,
    *,
    delivery_id: DeliveryId,
    event_id: EventId,
    event_type: str | None,
    reason: str,
    attempts: int,
    manual: bool,
    status: int | None = None,
    error: str | None = None,
) -> OperationalEvent:
    """Tell that a delivery was given up, and why."""
    data = {
        "webhookId": str(endpoint_id),
        "deliveryId": delivery_id,
        "eventId": str(event_id),
        "eventType": event_type,
        "reason": str(reason),
        "attemptCount": attempts,
        "isManual": manual,
        **_last(status, error),
    }
    return OperationalEvent(endpoint_id, OperationalType.DELIVERY_DEAD, data)


def _last(status: int | None, error: str | None) -> dict[str, Any]:
    storable = None if error is None else error.encode("utf-8", "replace").decode().replace("\0", "�")
    return {"lastStatus": status, "lastError": storable}


def _iso(instant: float | None) -> str | None:
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
