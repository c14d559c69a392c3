"""Tenants and their keys."""

from uuid import UUID

from dispatcher.admin.base import Base
from dispatcher.admin.results import NewKey
from dispatcher.store.keys import Key
from dispatcher.store.tenants import Tenant


class TenantsAdmin(Base):
    """Register tenants, create and revoke their keys."""

    async def create_tenant(self, name: str, *, parent: str | None = None) -> Tenant:
        """Register a tenant; its parent, if any, is for ever."""
        raise NotImplementedError

    async def list_tenants(self) -> list[Tenant]:
        """Return all tenants by name."""
        raise NotImplementedError

    async def tenant(self, name: str) -> Tenant:
        """Return a tenant; `NotFound` names near misses and says how to register one."""
        raise NotImplementedError

    async def create_key(self, tenant: str, *, operator: bool = False, description: str | None = None) -> NewKey:
        """Create a key for a tenant, or one that may act for every tenant (`operator`)."""
        raise NotImplementedError

    async def list_keys(self, tenant: str | None = None) -> list[Key]:
        """Return a tenant's keys, or all, revoked ones included, the oldest first."""
        raise NotImplementedError

    async def revoke_key(self, key_id: UUID) -> Key:
        """Revoke a key for good; to revoke it again changes nothing."""
        raise NotImplementedError
