"""Does a thing once however often it is asked for under one `Idempotency-Key`: the answer is kept, and given again."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from dispatcher.admin import checks
from dispatcher.admin.base import Base
from dispatcher.errors import Conflict, InvalidInput
from dispatcher.store import answers as store

FIELD = "idempotency_key"


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as a front gave it."""

    status: int
    body: str


class OnceAdmin(Base):
    """Remember answers."""

    async def once(
        self,
        tenant: str,
        key: str,
        fingerprint: bytes,
        act: Callable[[Self], Awaitable[Given]],
    ) -> tuple[Given, bool]:
        """Act, or return the answer that was given under the key before, and whether it was so.

        What `act` does with the `Admin` that it is given, and the memory of it, are one transaction: a crash leaves both or
        neither. What raises is not remembered, so that it can be tried again. `fingerprint` tells requests apart: the same
        key with another one is refused.
        """
        _check(key)
        async with self._transaction() as connection:
            if not await store.reserve(connection, tenant, key, fingerprint=fingerprint, now=self._now()):
                return await self._recalled(connection, tenant, key, fingerprint), True
            given = await act(self._joining(connection))
            await store.remember(connection, tenant, key, status=given.status, body=self._sealer.seal(given.body))
        return given, False

    async def once_outside(
        self,
        tenant: str,
        key: str,
        fingerprint: bytes,
        act: Callable[[Self], Awaitable[Given]],
    ) -> tuple[Given, bool]:
        """Do the same for what speaks to others, which no transaction may wait for.

        The key is claimed first; who comes meanwhile is told to ask again. A crash before the answer is remembered leaves
        it claimed for two minutes, and then it can be done once more.
        """
        _check(key)
        async with self._transaction() as connection:
            if not await store.reserve(connection, tenant, key, fingerprint=fingerprint, now=self._now()):
                return await self._recalled(connection, tenant, key, fingerprint), True
        try:
            given = await act(self)
        except BaseException:
            async with self._transaction() as connection:
                await store.release(connection, tenant, key)
            raise
        async with self._transaction() as connection:
            await store.remember(connection, tenant, key, status=given.status, body=self._sealer.seal(given.body))
        return given, False

    async def _recalled(self, connection: Any, tenant: str, key: str, fingerprint: bytes) -> Given:
        found = await store.recall(connection, tenant, key)
        assert found is not None, "a key that cannot be reserved is there, as long as this transaction lasts"
        if found.fingerprint != fingerprint:
            raise InvalidInput(
                "This idempotency key was used for another request within the last 24 hours. Use a new one for a new "
                "request, and the same one only to repeat a request as it was.",
                field=FIELD,
            )
        if not found.status:
            raise Conflict(
                "A request under this idempotency key is being carried out. Ask again in a while.", field=FIELD
            )
        return Given(found.status, self._sealer.open(found.body.data, found.body.key))


def _check(key: str) -> None:
    if not 1 <= len(key) <= checks.MOST_CHARACTERS or not checks.is_storable(key):
        raise InvalidInput(f"An idempotency key is 1 to {checks.MOST_CHARACTERS} characters.", field=FIELD)
