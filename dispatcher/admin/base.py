"""What every part of `Admin` works with: the pool, the rules, and how things are looked up by a name or an id."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Protocol, Self

from dispatcher.addresses import AddressPolicy
from dispatcher.admin.held import Held
from dispatcher.clock import Clock
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.egress import Request, Sender
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId, Outcome
from dispatcher.retry import DEFAULT_SCHEDULE
from dispatcher.sealing import Sealer
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import tenants as tenant_store
from dispatcher.store.endpoints import EndpointRow
from dispatcher.store.pool import is_unstorable
from dispatcher.store.tenants import Tenant

NAMES_COMPARED = 10_000
"""Tenants that a mistyped name is compared with; more would make a mistake dear."""


class Sends(Protocol):
    """What egress does."""

    async def send(self, request: Request) -> Outcome:
        """Make one request; whatever happens on the way is an outcome."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Base:
    """Hold the pool and the rules that values are checked against."""

    def __init__(
        self,
        pool: Any,  # asyncpg's, which only `store` may name
        *,
        sealer: Sealer,
        policy: AddressPolicy,
        https_only: bool = True,
        default_schedule: Sequence[float] = DEFAULT_SCHEDULE,
        doorkeeper: Doorkeeper | None = None,
        make_sender: Callable[[], Sends] | None = None,
        origin: str = "dispatcher",
        portal_url: str = "http://127.0.0.1:8080/portal",
        clock: Clock | None = None,
    ) -> None:
        """`make_sender` opens egress, for who asks a subscriber something; `origin` is how the service calls itself.

        `portal_url`: where tenants' own pages are.
        """
        self._pool = pool
        self._sealer = sealer
        self._policy = policy
        self._https_only = https_only
        self._default_schedule = tuple(default_schedule)
        self._clock = clock or Clock()
        self._doorkeeper = doorkeeper or Doorkeeper(clock=self._clock)
        self._make_sender = make_sender or self._own_sender
        self._origin = origin
        self._portal_url = portal_url

    def _own_sender(self) -> Sends:
        return Sender(self._policy, https_only=self._https_only, user_agent="dispatcher")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        with _refusing_unstorable():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        """Open a transaction in which every statement sees the same; within another one (see `once`) read as that does."""
        with _refusing_unstorable():
            async with self._pool.acquire() as connection:
                if connection.is_in_transaction():
                    yield connection
                    return
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    yield connection

    def _joining(self, connection: Any) -> Self:
        """Return an `Admin` like this one whose transactions are parts of the one that is open on `connection`."""
        joining = copy(self)
        joining._pool = Held(connection)  # noqa: SLF001 - of its own kind
        return joining

    def now(self) -> datetime:
        """Return the instant, by the clock that all of it goes by."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _now(self) -> datetime | None:
        return self._clock.override()

    async def _tenant(self, connection: Any, name: str) -> Tenant:
        tenant = await tenant_store.one(connection, name)
        if tenant is not None:
            return tenant
        near = get_close_matches(name, await tenant_store.names(connection, limit=NAMES_COMPARED), n=3)
        meant = f" Did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
        raise NotFound(
            f"There is no tenant `{shortened(name)}`.{meant} `dispatcher tenant create NAME` registers one, "
            "`dispatcher tenant list` shows all."
        )

    async def _endpoint(self, connection: Any, webhook_id: EndpointId, tenant: str | None) -> EndpointRow:
        """Look a webhook up; another tenant's is as if it did not exist."""
        endpoint = await endpoint_store.one(connection, webhook_id)
        if endpoint is None or tenant not in (None, endpoint.tenant):
            raise NotFound(f"There is no webhook {webhook_id}. `dispatcher webhook list` shows all.")
        return endpoint


def shortened(text: str) -> str:
    """Make a text that came from outside fit for a message: one short line."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])


@contextmanager
def _refusing_unstorable() -> Iterator[None]:
    """Tell who asked that a text of theirs holds what Postgres cannot; every text is bound to reach the database."""
    try:
        yield
    except Exception as error:
        if not is_unstorable(error):
            raise
        raise InvalidInput(
            "A text holds a character that Postgres cannot store: NUL, or half of a surrogate pair. Leave it out."
        ) from error
