"""What every part of `Admin` works with."""

from collections.abc import Sequence
from typing import Any

from dispatcher.addresses import AddressPolicy
from dispatcher.retry import DEFAULT_SCHEDULE
from dispatcher.sealing import Sealer


class Base:
    """Hold the pool and the rules that values are checked against."""

    def __init__(
        self,
        pool: Any,  # asyncpg's pool, which only `store` may name
        *,
        sealer: Sealer,
        policy: AddressPolicy,
        https_only: bool = True,
        default_schedule: Sequence[float] = DEFAULT_SCHEDULE,
    ) -> None:
        self._pool = pool
        self._sealer = sealer
        self._policy = policy
        self._https_only = https_only
        self._default_schedule = tuple(default_schedule)
