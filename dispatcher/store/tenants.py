"""Reads and writes tenants."""

from dataclasses import dataclass
from datetime import datetime

from dispatcher.model import Shard


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose events and endpoints they are."""

    name: str
    parent: str | None
    root: str
    """The top of its tree; itself without a parent."""
    shard: Shard
    created_at: datetime
