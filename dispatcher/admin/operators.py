"""Operators of the console: their accounts, passwords (Argon2id) and sessions."""

import asyncio
import hashlib
import secrets as entropy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dispatcher.admin import checks
from dispatcher.admin.base import Base, shortened
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.store import operators as store
from dispatcher.store.operators import Operator

T = TypeVar("T")

SHORTEST_PASSWORD: Final = 12
"""Characters: long ones beat odd ones (NIST SP 800-63B)."""
LONGEST_PASSWORD: Final = 1024
"""Characters: more is an attack on the hash's time."""

TOKEN_BYTES: Final = 32

AT_ONCE: Final = 2
"""Passwords hashed at the same time: each takes 19 MiB and some tens of milliseconds of a core."""


@cache
def _hasher() -> PasswordHasher:
    """Argon2id with 19 MiB, 2 passes, 1 lane: OWASP's recommendation, which leaves a small machine its memory."""
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@cache
def _nobody() -> str:
    """Make the hash that an unknown name is checked against, so that it takes as long as a known one."""
    return _hasher().hash(entropy.token_urlsafe())


@cache
def _few() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")


class OperatorsAdmin(Base):
    """Register operators, let them in and out."""

    async def create_operator(self, name: str, password: str) -> Operator:
        """Register somebody who may sign in to the console."""
        checks.name(name, field="name", what="An operator's name")
        hashed = await _hashed(password)
        async with self._transaction() as connection:
            operator = await store.insert(connection, name, password_hash=hashed)
        if operator is None:
            raise InvalidInput(
                f"The operator `{name}` exists already. `dispatcher operator set-password` changes the password.",
                field="name",
            )
        return operator

    async def set_password(self, name: str, password: str) -> Operator:
        """Change an operator's password; all their sessions end."""
        hashed = await _hashed(password)
        async with self._transaction() as connection:
            operator = await store.set_password(connection, name, password_hash=hashed, now=self._now())
        if operator is None:
            raise _unknown(name)
        return operator

    async def remove_operator(self, name: str) -> None:
        """Remove an operator; all their sessions end."""
        async with self._transaction() as connection:
            if not await store.remove(connection, name):
                raise _unknown(name)

    async def list_operators(self) -> list[Operator]:
        """Return all operators by name."""
        async with self._reading() as connection:
            return await store.every(connection)

    async def has_operators(self) -> bool:
        """Tell whether anybody could sign in."""
        async with self._reading() as connection:
            return await store.is_any(connection)

    async def sign_in(self, name: str, password: str, *, lasting: float) -> str | None:
        """Check a password and begin a session of so many seconds; returns its token, None for a wrong name or password."""
        async with self._reading() as connection:
            known = await store.password_hash(connection, name) if checks.is_storable(name) else None
        hashed = known if known is not None else await _in_thread(_nobody)
        if not await _verify(hashed, password) or known is None:
            return None
        again = await _hashed(password) if _hasher().check_needs_rehash(known) else None
        token = entropy.token_urlsafe(TOKEN_BYTES)
        async with self._transaction() as connection:
            if again is not None:
                await store.replace_hash(connection, name, old=known, new=again)
            await store.begin_session(connection, _digest(token), name, seconds=lasting, now=self._now())
        return token

    async def operator_of(self, token: str) -> str | None:
        """Return the operator whose session a token is of; None if it is over or never was."""
        async with self._reading() as connection:
            return await store.session(connection, _digest(token), now=self._now())

    async def sign_out(self, token: str) -> None:
        """End a session."""
        async with self._transaction() as connection:
            await store.end_session(connection, _digest(token))


def _digest(token: str) -> bytes:
    # so random a token needs no slow hash
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


async def _hashed(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidInput(
            f"A password is {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; a few words with blanks between will do.",
            field="password",
        )
    return await _in_thread(_hasher().hash, password.encode(errors="surrogatepass"))


async def _verify(hashed: str, password: str) -> bool:
    if len(password) > LONGEST_PASSWORD:
        return False
    try:
        return await _in_thread(_hasher().verify, hashed, password.encode(errors="surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


async def _in_thread(act: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_few(), act, *arguments)


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no operator `{shortened(name)}`. `dispatcher operator list` shows all.")
