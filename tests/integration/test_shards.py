"""Workers share the shards among themselves, by leases alone: fair shares, take-overs, losses, giving back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.metrics import Metrics
from dispatcher.model import SHARD_COUNT, Shard
from dispatcher.ownership import Ownership
from dispatcher.shards import Hooks, Shards
from dispatcher.store import shards as store
from dispatcher.store.pool import Pool, open_pool
from support.clock import FakeClock

ALL = {Shard(number) for number in range(SHARD_COUNT)}

LEASE = 30.0
"""Seconds: longer than any test; leases end here by being cut short in the table."""


class Member:
    """One worker as far as shards go, and what it was told."""

    def __init__(self, pool: Pool) -> None:
        self.id = uuid4()
        self.clock = FakeClock()
        self.ownership = Ownership()
        self.gained: set[Shard] = set()
        self.lost: set[Shard] = set()
        self.kept: set[Shard] = set()
        self.busy: set[Shard] = set()
        identity = store.Worker(self.id, "host", 1, ("deliver",), "0")
        self.step = Shards(
            pool,
            identity,
            ownership=self.ownership,
            hooks=Hooks(
                gained=self._gain,
                held_back=lambda _: None,
                kept=self.kept.update,
                lost=self.lost.update,
                drained=lambda shard: shard not in self.busy,
            ),
            clock=self.clock,
            lease=LEASE,
            metrics=Metrics(),
        )

    async def _gain(self, shards: Sequence[Shard]) -> None:
        assert not set(shards) & set(self.ownership.epochs), "told before it may act"
        self.gained.update(shards)

    @property
    def owned(self) -> set[Shard]:
        """What it holds."""
        return set(self.ownership.epochs)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections for all members."""
    pool = await open_pool(database)
    yield pool
    await pool.close()


async def beat(*members: Member, times: int = 1) -> None:
    """Let each beat in turn."""
    for _ in range(times):
        for member in members:
            await member.step.run_once()


async def cut_short(connection: Any, owner: UUID) -> None:
    """Let the leases of a worker run out, and itself be forgotten, as time would."""
    await connection.execute("update dispatcher.shard_leases set expires_at = now() where owner = $1", owner)
    await connection.execute("update dispatcher.workers set expires_at = now() where id = $1", owner)


async def test_one_worker_takes_all(pool: Pool) -> None:
    """Alone, a worker owns every shard after one beat, and was told before it may act."""
    alone = Member(pool)

    await beat(alone)

    assert alone.owned == alone.gained == ALL


async def test_a_second_worker_gets_half(pool: Pool) -> None:
    """The first one gives its surplus back, the second one takes it; none is owned twice."""
    first, second = Member(pool), Member(pool)
    await beat(first)

    await beat(second, first, second)

    assert (len(first.owned), len(second.owned)) == (128, 128)
    assert first.owned | second.owned == ALL
    assert first.lost == second.owned


async def test_three_workers_settle_on_fair_shares(pool: Pool) -> None:
    """Whoever comes, no worker owns more than its share, and nothing is left over."""
    members = [Member(pool) for _ in range(3)]

    await beat(*members, times=3)

    assert sorted(len(member.owned) for member in members) == [84, 86, 86]


async def test_a_shard_with_work_under_way_is_given_back_only_when_it_is_drained(pool: Pool) -> None:
    """A surplus shard stays, without new work, until its requests have ended."""
    first, second = Member(pool), Member(pool)
    await beat(first)
    first.busy = {shard for shard in ALL if shard >= 200}

    await beat(second, first, second)
    kept = first.owned & first.busy
    surplus = first.ownership.surplus
    first.busy = set()
    await beat(first, second)

    assert kept == surplus == {shard for shard in ALL if shard >= 200}
    assert (len(first.owned), len(second.owned)) == (128, 128)


async def test_surplus_shards_are_kept_when_the_other_worker_leaves(pool: Pool) -> None:
    """What was held back for a worker that is gone is worked on again."""
    staying, leaving = Member(pool), Member(pool)
    await beat(staying)
    staying.busy = ALL
    await beat(leaving, staying)
    held_back = staying.ownership.surplus
    await leaving.step.leave()

    await beat(staying)

    assert staying.kept == held_back
    assert len(held_back) == 128
    assert len(staying.ownership.active) == SHARD_COUNT


async def test_a_dead_workers_shards_are_taken_when_its_leases_are_over(pool: Pool, connection: Any) -> None:
    """The epoch counts on, so that the dead one, should it live, finds out."""
    dead, heir = Member(pool), Member(pool)
    await beat(dead)
    before = dict(dead.ownership.epochs)
    await cut_short(connection, dead.id)

    await beat(heir)

    assert heir.owned == ALL
    assert all(heir.ownership.epochs[shard] == before[shard] + 1 for shard in before)


async def test_a_worker_finds_out_that_it_lost_its_shards(pool: Pool, connection: Any) -> None:
    """Back from the dead, it forgets them, and gets its share anew from the others."""
    slow, heir = Member(pool), Member(pool)
    await beat(slow)
    await cut_short(connection, slow.id)
    await beat(heir)

    await beat(slow)

    assert slow.lost == ALL
    assert slow.owned == set()


async def test_an_expired_lease_that_nobody_took_is_renewed(pool: Pool, connection: Any) -> None:
    """After an outage of the database the owner goes on where it was."""
    alone = Member(pool)
    await beat(alone)
    await cut_short(connection, alone.id)

    await beat(alone)

    assert alone.lost == set()
    assert len(alone.owned) == SHARD_COUNT


async def test_without_a_renewal_a_worker_stops_acting_by_its_own_clock(pool: Pool) -> None:
    """The lease is reckoned from before the database was asked."""
    alone = Member(pool)
    await beat(alone)
    before = alone.ownership.may_act(Shard(7), alone.clock.monotonic())

    alone.clock.advance(LEASE)

    assert before
    assert not alone.ownership.may_act(Shard(7), alone.clock.monotonic())


async def test_leaving_gives_everything_back_at_once(pool: Pool) -> None:
    """The others need not wait for the leases to run out."""
    leaving, staying = Member(pool), Member(pool)
    await beat(leaving, staying, leaving, staying)

    await leaving.step.leave()
    await beat(staying)

    assert staying.owned == ALL


async def test_two_that_start_together_never_own_a_shard_both(pool: Pool) -> None:
    """Taken at the same moment, each shard goes to one of them."""
    members = [Member(pool) for _ in range(4)]

    await asyncio.gather(*(member.step.run_once() for member in members))
    await asyncio.gather(*(member.step.run_once() for member in members))

    owned = [shard for member in members for shard in member.owned]
    assert len(owned) == len(set(owned))
