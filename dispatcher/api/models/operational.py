"""Operational events as subscribers receive them: the payloads that `dispatcher.operational` writes."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from dispatcher.api.models.base import Shown


class EndpointFailing(Shown):
    """A webhook has done nothing but fail for so long that people are warned."""

    webhook_id: UUID
    failing_since: datetime
    disable_date: Annotated[datetime, Field(description="From then on the next failure disables it.")]
    last_status: int | None
    last_error: str | None


class EndpointDisabled(Shown):
    """A webhook was disabled; what was pending dies with it, without an event for each."""

    webhook_id: UUID
    reason: str
    last_status: int | None
    last_error: str | None


class EndpointRecovered(Shown):
    """A webhook that people were warned of has succeeded."""

    webhook_id: UUID


class DeliveryDead(Shown):
    """A delivery was given up."""

    webhook_id: UUID
    delivery_id: int
    event_id: UUID
    event_type: str | None
    reason: str
    attempt_count: int
    is_manual: bool
    last_status: int | None
    last_error: str | None
