"""What owning a shard allows, and until when."""

from dispatcher.model import Shard
from dispatcher.ownership import Ownership

ONE, TWO = Shard(1), Shard(2)


def owning(*shards: Shard, until: float = 10.0) -> Ownership:
    """An ownership of some shards."""
    ownership = Ownership()
    ownership.take(dict.fromkeys(shards, 1))
    ownership.prolong(until)
    return ownership


def test_a_shard_may_be_acted_on_while_its_lease_runs() -> None:
    """Up to the end, and not at it."""
    ownership = owning(ONE)

    assert [ownership.may_act(ONE, now) for now in (9.9, 10.0)] == [True, False]


def test_a_new_worker_may_do_nothing() -> None:
    """Nothing was taken, no lease runs."""
    ownership = Ownership()

    assert not ownership.runs(0.0)
    assert not ownership.may_act(ONE, 0.0)


def test_nothing_is_begun_for_a_surplus_shard() -> None:
    """It is still owned, so that what is under way can end; kept after all, it is active again."""
    ownership = owning(ONE, TWO)

    ownership.hold_back([ONE, Shard(99)])
    held_back = (ownership.active, ownership.may_act(ONE, 0.0), ownership.surplus)
    ownership.keep([ONE])

    assert held_back == ([TWO], False, frozenset({ONE}))
    assert ownership.active == [ONE, TWO]


def test_a_lost_shard_is_forgotten_whatever_it_was() -> None:
    """Surplus or active, owned or not."""
    ownership = owning(ONE, TWO)
    ownership.hold_back([ONE])

    ownership.lose([ONE, Shard(99)])

    assert dict(ownership.epochs) == {TWO: 1}
    assert ownership.surplus == frozenset()
