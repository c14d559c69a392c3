"""Reads and writes API keys; only their hashes are stored."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as far as it can be shown."""

    id: UUID
    tenant: str
    operator: bool
    """True: it may act for every tenant."""
    prefix: str
    """Its first characters, to tell keys apart."""
    description: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
