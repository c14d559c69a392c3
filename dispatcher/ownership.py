"""Which shards this worker owns, and until when it may act on it. Taking and renewing leases is left to `shards`."""

from collections.abc import Iterable, Mapping
from math import inf

from dispatcher.model import Shard


class Ownership:
    """The shards of one worker. Instants are of the monotonic clock, so that no step of a clock prolongs a lease."""

    def __init__(self) -> None:
        self._epochs: dict[Shard, int] = {}
        self._surplus: set[Shard] = set()
        self._until = -inf

    @property
    def epochs(self) -> Mapping[Shard, int]:
        """Every shard held, with the epoch of its lease."""
        return self._epochs

    @property
    def surplus(self) -> frozenset[Shard]:
        """Shards that are being given back: nothing new is begun for them."""
        return frozenset(self._surplus)

    @property
    def active(self) -> list[Shard]:
        """The shards to work for, surplus ones left out."""
        return [shard for shard in self._epochs if shard not in self._surplus]

    def may_act(self, shard: Shard, monotonic: float) -> bool:
        """Whether the lease of an active shard still runs by this worker's own reckoning."""
        return monotonic < self._until and shard in self._epochs and shard not in self._surplus

    def runs(self, monotonic: float) -> bool:
        """Whether the leases still run."""
        return monotonic < self._until

    def take(self, shards: Mapping[Shard, int]) -> None:
        """Add shards, with their epochs."""
        self._epochs.update(shards)

    def prolong(self, until: float) -> None:
        """Set the end of all leases, as reckoned from before the database was asked."""
        self._until = until

    def hold_back(self, shards: Iterable[Shard]) -> None:
        """Mark shards as surplus."""
        self._surplus.update(shard for shard in shards if shard in self._epochs)

    def keep(self, shards: Iterable[Shard]) -> None:
        """Do not give these back after all."""
        self._surplus.difference_update(shards)

    def lose(self, shards: Iterable[Shard]) -> None:
        """Forget shards: given back, or taken by another worker."""
        for shard in shards:
            self._epochs.pop(shard, None)
            self._surplus.discard(shard)
