"""Tenants and their keys."""

import hashlib
import secrets as entropy
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dispatcher.admin import checks
from dispatcher.admin.base import Base, shortened
from dispatcher.admin.results import NewKey
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.store import keys as key_store
from dispatcher.store import tenants as tenant_store
from dispatcher.store.keys import Key
from dispatcher.store.tenants import Tenant

KEY_PREFIX = "dsp_"
"""Lets people, and programs that search for leaked keys, tell ours from others."""
KEY_BYTES = 32
"""As long as SHA-256's output; so random a key needs no slow hash."""
SHOWN = len(KEY_PREFIX) + 8
"""Characters of a key that stay visible: enough to tell keys apart, and 24 bytes short of using it."""

USE_NOTED_EVERY = 60.0
"""Seconds: a write for every call would cost more than most calls."""


class TenantsAdmin(Base):
    """Register tenants, create and revoke their keys."""

    async def create_tenant(self, name: str, *, parent: str | None = None) -> Tenant:
        """Register a tenant; its parent, if any, is for ever."""
        checks.name(name, field="name", what="A tenant's name")
        async with self._transaction() as connection:
            if parent is not None:
                await self._tenant(connection, parent)
            tenant = await tenant_store.insert(connection, name, parent=parent)
        if tenant is None:
            raise InvalidInput(
                f"The tenant `{name}` exists already. Choose another name, or use it as it is.", field="name"
            )
        return tenant

    async def list_tenants(self) -> list[Tenant]:
        """Return all tenants by name."""
        async with self._reading() as connection:
            return await tenant_store.every(connection)

    async def tenant(self, name: str) -> Tenant:
        """Return a tenant; `NotFound` names near misses and says how to register one."""
        async with self._reading() as connection:
            return await self._tenant(connection, name)

    async def create_key(self, tenant: str, *, operator: bool = False, description: str | None = None) -> NewKey:
        """Create a key for a tenant, or one that may act for every tenant (`operator`)."""
        description = checks.description(description)
        key = KEY_PREFIX + entropy.token_urlsafe(KEY_BYTES)
        async with self._transaction() as connection:
            await self._tenant(connection, tenant)
            details = await key_store.insert(
                connection,
                tenant,
                operator=operator,
                prefix=key[:SHOWN],
                digest=digest_of(key),
                description=description,
            )
        return NewKey(key, details)

    async def list_keys(self, tenant: str | None = None) -> list[Key]:
        """Return a tenant's keys, or all, revoked ones included, the oldest first."""
        async with self._reading() as connection:
            if tenant is None:
                return await key_store.every(connection)
            await self._tenant(connection, tenant)
            return await key_store.of_tenant(connection, tenant)

    async def revoke_key(self, key_id: UUID) -> Key:
        """Revoke a key for good; to revoke it again changes nothing."""
        async with self._transaction() as connection:
            key = await key_store.revoke(connection, key_id, now=self._now())
        if key is None:
            raise NotFound(f"There is no key {shortened(str(key_id))}. `dispatcher key list` shows all.")
        return key

    async def authenticate(self, key: str) -> Key | None:
        """Return what a key that somebody shows may do; None for an unknown or a revoked one."""
        async with self._reading() as connection:
            return await key_store.in_use(connection, digest_of(key))

    async def admit(self, key: str, tenant: str) -> Key | None:
        """Return the key that somebody shows if it may act for a tenant, and note that it is in use.

        None, without a word why: for an unknown or revoked key, for another tenant's, and for a tenant that is not there.
        """
        async with self._pool.acquire() as connection:
            found = await key_store.in_use(connection, digest_of(key))
            known = await tenant_store.one(connection, tenant) if checks.is_storable(tenant) else None
            if found is None or known is None or not (found.operator or found.tenant == known.name):
                return None
            noted = found.last_used_at
            now = self._now() or datetime.fromtimestamp(self._clock.now(), UTC)
            if noted is None or noted < now - timedelta(seconds=USE_NOTED_EVERY):
                await key_store.mark_used(connection, found.id, at_most_every=USE_NOTED_EVERY, now=self._now())
        return found


def digest_of(key: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
