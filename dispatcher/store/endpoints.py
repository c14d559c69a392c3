"""Reads and writes endpoints with their subscriptions, secrets and health: for workers, and for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dispatcher.model import EndpointId, EndpointState, Shard


@dataclass(frozen=True, slots=True)
class HealthRow:
    """What is written down of how an endpoint is doing, for people (workers have `model.Health`)."""

    failing_since: datetime | None = None
    warned_at: datetime | None = None
    cool_until: datetime | None = None
    hung: bool = False
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint with all that a person may see of it."""

    id: EndpointId
    tenant: str
    shard: Shard
    url: str
    subscriptions: tuple[str, ...]
    state: EndpointState
    created_at: datetime
    updated_at: datetime | None = None
    """When a person last changed it; null until then."""
    archived_at: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    description: str | None = None
    notification_email: str | None = None
    additional_notification_emails: tuple[str, ...] = ()
    payload_format: str = "standard"
    signing_profiles: tuple[str, ...] = ("standard",)
    filter: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_schedule: tuple[float, ...] | None = None
    timeout: float | None = None
    rate_limit: float | None = None
    warn_after: float | None = None
    disable_after: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    health: HealthRow = HealthRow()
    secret: str | None = None
    """Only right after it was created."""


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One signing key of an endpoint, opened."""

    value: str
    created_at: datetime
    expires_at: datetime | None
    """Null for the current one."""
