"""Links that let a tenant's people into the console's pages of that tenant: signed, expiring, and made for one tenant.

A link's token says whom it is for and until when; an HMAC proves that this installation made it. Nothing is stored of it.
"""

import base64
import hashlib
import hmac
import secrets as entropy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson

from dispatcher.admin.base import Base
from dispatcher.errors import InvalidInput
from dispatcher.retry import parse_duration
from dispatcher.store import operators as store
from dispatcher.store import tenants as tenant_store

KEY_BYTES: Final = 32

LONGEST: Final = 30 * 86400.0
"""Seconds that a link may hold: it cannot be called back."""

USUAL: Final = 3600.0
"""Seconds: for somebody who follows it at once, from an application that makes one for each visit."""

FOR_LINKS: Final = b"portal link"
FOR_FORMS: Final = b"form of "


@dataclass(frozen=True, slots=True)
class PortalLink:
    """A link that was made."""

    tenant: str
    expires_at: datetime
    url: str = field(repr=False)
    """Lets in whoever has it."""


@dataclass(frozen=True, slots=True)
class ConsoleKey:
    """The console's key; guards links and forms."""

    value: bytes = field(repr=False)

    def link_token(self, tenant: str, expires_at: int) -> str:
        """Make the token of a link; `expires_at`: unix seconds."""
        said = _text(orjson.dumps([tenant, expires_at]))
        return f"{said}.{_text(self._sign(FOR_LINKS, said.encode()))}"

    def tenant_of(self, token: str, *, now: float) -> str | None:
        """Return whom a token lets in; None for one that is over, or not ours."""
        said, _, signature = token.partition(".")
        try:
            # as texts: of the last letter's bits some say nothing, and a link is spelled in one way only
            genuine = hmac.compare_digest(_text(self._sign(FOR_LINKS, said.encode())).encode(), signature.encode())
            tenant, expires_at = orjson.loads(_bytes(said)) if genuine else (None, 0)
        except ValueError:  # not base64, or half a surrogate pair
            return None
        return str(tenant) if genuine and now < expires_at else None

    def form_token(self, session: str) -> str:
        """Make what a form carries to show that it came from a page of that session (against CSRF)."""
        return _text(self._sign(FOR_FORMS, session.encode(errors="surrogatepass")))

    def _sign(self, purpose: bytes, message: bytes) -> bytes:
        own = hmac.digest(self.value, purpose, hashlib.sha256)
        return hmac.digest(own, message, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    data = text.encode("ascii")
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


class LinksAdmin(Base):
    """Make and read links for tenants."""

    async def create_portal_link(self, tenant: str, *, expires_in: str | float = USUAL) -> PortalLink:
        """Make a link for a tenant, for so many seconds (or `"1h"`), at most 30 days."""
        seconds = parse_duration(expires_in, field="expires_in")
        if not 1 <= seconds <= LONGEST:
            raise InvalidInput('A link holds for 1 s to 30 days, like "1h".', field="expires_in")
        async with self._reading() as connection:
            await self._tenant(connection, tenant)
        expires_at = int(self._clock.now() + seconds)
        token = (await self.console_key()).link_token(tenant, expires_at)
        url = f"{self._portal_url}/enter?token={token}"
        return PortalLink(tenant, datetime.fromtimestamp(expires_at, UTC), url)

    async def tenant_of_link(self, token: str) -> str | None:
        """Return the tenant that a link's token lets in; None if it is over, not ours, or the tenant is gone."""
        tenant = (await self.console_key()).tenant_of(token, now=self._clock.now())
        if tenant is None:
            return None
        async with self._reading() as connection:
            return tenant if await tenant_store.one(connection, tenant) is not None else None

    async def console_key(self) -> ConsoleKey:
        """Return the console's key; the first call makes it."""
        async with self._transaction() as connection:
            sealed = await store.console_key(connection)
            if sealed is None:
                await store.insert_console_key(connection, self._sealer.seal(entropy.token_hex(KEY_BYTES)))
                sealed = await store.console_key(connection)
        assert sealed is not None, "it was just stored, and is never deleted"
        return ConsoleKey(bytes.fromhex(self._sealer.open(sealed.data, sealed.key)))
