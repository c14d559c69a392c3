"""The main keys' side of secrets: seal anew with the current one, so that older ones can leave the configuration."""

from collections.abc import Callable

from dispatcher.admin.base import Base
from dispatcher.admin.results import Resealed
from dispatcher.errors import ConfigError
from dispatcher.sealing import SETTING
from dispatcher.store import sealed as store

BATCH = 500
"""Secrets sealed anew in one transaction: a few milliseconds, in which nobody can rotate them."""


class SecretsAdmin(Base):
    """Seal anew."""

    async def reseal_secrets(self, on_progress: Callable[[int, int], None] | None = None) -> Resealed:
        """Seal everything that is stored sealed with the current main key, while the service runs.

        `on_progress` is told how many are done of how many in all. Cut short, it goes on where it was when it is called
        again. Raises ConfigError where there is no main key, or not the one of a secret; what was done until then stays.
        """
        if self._sealer.current is None:
            raise ConfigError(f"{SETTING}: there is no main key. `dispatcher secret new-key` makes one.")
        async with self._reading() as connection:
            total = await store.stale(connection, self._sealer)
        done = 0
        while True:
            async with self._transaction() as connection:
                count = await store.reseal(connection, self._sealer, limit=BATCH)
            done += count
            if count and on_progress is not None:
                on_progress(done, max(done, total))
            if (
                count < BATCH
            ):  # what comes in meanwhile from a process with another current key is left for the next call
                break
        return Resealed(self._sealer.current, done)
