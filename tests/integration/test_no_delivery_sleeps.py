"""No delivery sleeps when it is due: the real steps on real SQL, driven in any order, with an endpoint's whole life around.

A hypothesis state machine. Whatever has happened, once every step has nothing more to do, each pending delivery of an
active endpoint either waits for an instant at which the worker will wake, or was tried; and the sweep finds nothing.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dispatcher import fanout
from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin
from dispatcher.deliver import feed, reap, record
from dispatcher.egress import Request
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.engine import Engine
from dispatcher.errors import DispatcherError
from dispatcher.metrics import Metrics
from dispatcher.model import Answered, DeliveryId, EndpointId, Outcome, Unreachable, UnreachableReason
from dispatcher.sealing import Sealer
from dispatcher.store import outbox
from dispatcher.store.pool import Pool
from dispatcher.store.shards import Worker as Identity
from dispatcher.worker import open_worker_pool
from support import postgres
from support.steps import early_clock, instant, told, turn
from support.world import insert_event, make_endpoint, settings_for

EXAMPLES, STEPS = 20, 25
"""Ten to thirty seconds. A hunt for new failures wants some hundred examples, and no `derandomize`."""

ROUNDS = 200
"""Rounds of all steps after which a settling that still finds work is a busy loop."""

NAMES = ("a", "b", "c")
"""Endpoints; the first two are of one tenant."""

BEHAVIOURS: dict[str, Outcome] = {
    "takes": Answered(204, (), b"", False, 0.01, None),
    "fails": Answered(500, (), b"broken", False, 0.01, None),
    "refuses": Unreachable(UnreachableReason.REFUSED, "refused", 0.01, None),
    "throttles": Answered(429, (("Retry-After", "7"),), b"", False, 0.01, None),
    "is busy": Answered(503, (), b"", False, 0.01, None),
    "aborts": Answered(404, (("webhook-delivery", "abort-message"),), b"", False, 0.01, None),
}
"""What an endpoint answers. One that hangs is one whose requests are not answered for a while."""


class Subscribers:
    """A sender whose requests wait until they are answered by the script."""

    def __init__(self) -> None:
        self.behaviour = dict.fromkeys(NAMES, "takes")
        self.waiting: list[tuple[str, asyncio.Future[Outcome]]] = []

    def begin(self, request: Request, done: Callable[[Outcome | Exception], None]) -> asyncio.Future[Outcome]:
        """Wait for an answer."""
        future = told(done)
        self.waiting.append((request.url.rpartition("/")[2], future))
        return future

    def answer(self, number: int) -> None:
        """Answer one of the requests that wait."""
        name, future = self.waiting.pop(number % len(self.waiting))
        if not future.done():
            future.set_result(BEHAVIOURS[self.behaviour[name]])

    def answer_all(self) -> int:
        """Answer them all; return how many there were."""
        count = len(self.waiting)
        while self.waiting:
            self.answer(0)
        return count


class Stage:
    """What outlives an example: the server's database, connections, the loop."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.runner = asyncio.Runner()
        self.run: Callable[[Any], Any] = self.runner.run
        self._server = server
        self.run(self._open())

    async def _open(self) -> None:
        self._name = await postgres.clone_template(self._server)
        self.url = self._server.url_of(self._name)
        self.settings = settings_for(
            self.url,
            shards__lease="10000s",
            delivery__in_flight="4",
            delivery__in_flight_per_endpoint="3",
            delivery__in_flight_start="2",
            retry__schedule="5s,60s,600s",
            health__warn_after="5m",
            health__disable_after="1h",
        )
        self.pool: Pool = await open_worker_pool(self.settings, self.url)
        self.connection = await asyncpg.connect(self.url)
        self.producers = [await asyncpg.connect(self.url) for _ in range(2)]
        self.endpoints = {
            name: EndpointId(
                await make_endpoint(
                    self.connection,
                    f"https://example.com/{name}",
                    tenant="one" if name in "ab" else "two",
                    notification_email="it@example.com",
                )
            )
            for name in NAMES
        }

    async def clear(self) -> None:
        """Let nothing of the example before be left."""
        await self.connection.execute(
            """
            truncate dispatcher.outbox, dispatcher.outbox_unread, dispatcher.deliveries, dispatcher.finished_deliveries,
              dispatcher.attempts, dispatcher.unmatched_events, dispatcher.endpoint_health, dispatcher.notices,
              dispatcher.mails, dispatcher.workers;
            update dispatcher.shard_leases set owner = null, expires_at = '-infinity';
            update dispatcher.endpoints
            set state = 'active', archived_at = null, disabled_at = null, disabled_reason = null, rate_limit = null;
            """
        )

    def close(self) -> None:
        """Leave nothing behind."""

        async def end() -> None:
            for connection in (self.connection, *self.producers):
                await connection.close()
            await self.pool.close()
            await postgres.drop(self._server, self._name)

        self.run(end())
        self.runner.close()


class Life(RuleBasedStateMachine):
    """A worker, three endpoints, and all that may happen to them."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.clock = early_clock()
        self.metrics = Metrics()
        self.subscribers = Subscribers()
        self.open_transactions: list[Any] = []
        self.zombies: list[Engine] = []
        self.failed = False
        self.admin = Admin(self.stage.pool, sealer=Sealer(), policy=AddressPolicy(), clock=self.clock)
        self.run(self.stage.clear())
        self.engine = self.run(self.start())

    @property
    def run(self) -> Callable[[Any], Any]:
        """Run a coroutine on the one loop."""
        return self.stage.run

    async def start(self) -> Engine:
        """Start a worker, with room for few rows so that every limit is met."""
        engine = Engine(
            self.stage.settings,
            self.stage.pool,
            identity=Identity(id=uuid4(), host="here", pid=1, roles=("deliver",), release="test"),
            sender=self.subscribers,
            wake=lambda _: None,
            clock=self.clock,
            random=Random(1),
            metrics=self.metrics,
        )
        engine._lanes._held_total = 8
        await engine.shards.run_once()
        await (
            engine.refresh.run_once()
        )  # the first time, all endpoints look changed, and much is read that would be missed
        return engine

    # events

    @rule(
        tenant=st.sampled_from(["one", "two"]),
        count=st.integers(1, 6),
        key=st.sampled_from([None, None, "k", "l"]),
        deliver_in=st.sampled_from([None, None, None, 3.0, 600.0]),
        expires_in=st.sampled_from([None, None, None, 4.0, 3600.0]),
    )
    def insert(
        self, tenant: str, count: int, key: str | None, deliver_in: float | None, expires_in: float | None
    ) -> None:
        """Events are inserted and committed."""
        if deliver_in is not None and expires_in is not None and expires_in <= deliver_in:
            expires_in = None
        columns: dict[str, Any] = {"ordering_key": key}
        if deliver_in is not None:
            columns["deliver_at"] = instant(self.clock, deliver_in)
        if expires_in is not None:
            columns["expires_at"] = instant(self.clock, expires_in)

        async def insert_all() -> None:
            for _ in range(count):
                await insert_event(self.stage.connection, tenant=tenant, **columns)

        self.run(insert_all())

    @precondition(lambda self: len(self.open_transactions) < 2)
    @rule(tenant=st.sampled_from(["one", "two"]), count=st.integers(1, 8))
    def insert_slowly(self, tenant: str, count: int) -> None:
        """A transaction inserts events and stays open: others overtake it."""
        connection = self.stage.producers[len(self.open_transactions)]

        async def begin() -> None:
            await connection.execute("begin")
            for _ in range(count):
                await insert_event(connection, tenant=tenant)

        self.run(begin())
        self.open_transactions.append(connection)

    @precondition(lambda self: self.open_transactions)
    @rule(end=st.sampled_from(["commit", "commit", "rollback"]))
    def end_transaction(self, end: str) -> None:
        """It ends."""
        self.run(self.open_transactions.pop().execute(end))

    # endpoints

    @rule(name=st.sampled_from(NAMES), behaviour=st.sampled_from(sorted(BEHAVIOURS)))
    def behave(self, name: str, behaviour: str) -> None:
        """An endpoint behaves differently from now on."""
        self.subscribers.behaviour[name] = behaviour

    @precondition(lambda self: self.subscribers.waiting)
    @rule(numbers=st.lists(st.integers(0, 10), min_size=1, max_size=4))
    def answer(self, numbers: list[int]) -> None:
        """Some requests are answered; the others still hang."""
        for number in numbers:
            if self.subscribers.waiting:
                self.subscribers.answer(number)
        self.run(turn())

    # people

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["pause", "resume", "disable", "enable"]))
    def set_state(self, name: str, what: str) -> None:
        """A person pauses, resumes, disables or enables an endpoint."""
        self.ask(getattr(self.admin, f"{what}_webhook")(self.stage.endpoints[name]))

    @rule(name=st.sampled_from(NAMES), rate=st.sampled_from([None, 0.5, 20.0]))
    def limit(self, name: str, rate: float | None) -> None:
        """A person limits the rate."""
        self.run(
            self.stage.connection.execute(
                "update dispatcher.endpoints set rate_limit = $2, changed_at = clock_timestamp() where id = $1",
                self.stage.endpoints[name],
                rate,
            )
        )

    @rule(what=st.sampled_from(["retry", "cancel"]), number=st.integers(0, 20))
    def handle(self, what: str, number: int) -> None:
        """A person retries or cancels a pending delivery, or has one repeated that has ended."""
        ids = self.run(
            self.stage.connection.fetch(
                "select id from dispatcher.deliveries union select id from dispatcher.finished_deliveries order by id"
            )
        )
        if ids:
            delivery_id = DeliveryId(ids[number % len(ids)]["id"])
            self.ask(getattr(self.admin, f"{what}_delivery")(delivery_id))

    def ask(self, request: Any) -> None:
        """Let a person do something; what is refused is refused."""

        async def asked() -> None:
            with suppress(DispatcherError):
                await request

        self.run(asked())

    # time and work

    @rule(seconds=st.sampled_from([0.01, 0.6, 1.0, 5.0, 40.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes, and nothing is done."""
        self.clock.advance(seconds)

    @rule(names=st.lists(st.sampled_from(["fanout", "send", "pulling", "refresh", "record", "reap"]), max_size=6))
    def work(self, names: list[str]) -> None:
        """Some steps run, in any order."""
        for name in names:
            self.run(getattr(self.engine, name).run_once())
            self.run(turn())

    @rule(answers=st.integers(0, 4))
    def work_in_order(self, answers: int) -> None:
        """What work there is goes its way once; some requests are answered."""
        self.work(["fanout", "pulling", "send"])
        for _ in range(min(answers, len(self.subscribers.waiting))):
            self.subscribers.answer(0)
        self.run(turn())

    @rule()
    def beat(self) -> None:
        """The leases are renewed."""
        self.run(self.engine.shards.run_once())

    @rule()
    def sweep(self) -> None:
        """The sweep comes by."""
        self.run(self.engine.sweep.run_once())

    @rule(zombie=st.booleans())
    def die(self, zombie: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """The worker dies, or is cut off and lives on with results to write; another takes its shards."""
        old = self.engine
        if zombie:
            self.zombies = [old]
            self.subscribers.answer_all()
            self.run(turn())
        self.run(self.leave(old))
        self.engine = self.run(self.start())

    async def leave(self, old: Engine) -> None:
        """Let an engine's leases run out; nobody waits any more for the answers that it waited for."""
        old.send._stopped = True
        for _, flight in tuple(old.send._flights.values()):
            flight.cancel()
        await turn()
        self.subscribers.waiting = [item for item in self.subscribers.waiting if not item[1].done()]
        await self.stage.connection.execute("delete from dispatcher.workers")
        await self.stage.connection.execute("update dispatcher.shard_leases set expires_at = '-infinity'")

    @precondition(lambda self: self.engine.record.waiting)
    @rule()
    def lose_the_connection_while_recording(self) -> None:
        """A batch of results is committed, but the answer to the commit is lost: they will be written again."""

        def lost(*_: Any) -> None:
            raise ConnectionResetError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.engine.record, "_forget", lost)
            with pytest.raises(ConnectionResetError):
                self.run(self.engine.record.run_once())

    @rule()
    def lose_the_connection_while_fanning_out(self) -> None:
        """A batch is committed, but the answer to the commit is lost."""
        fan_out = outbox.fan_out

        async def lost(connection: Any, *arguments: Any, **options: Any) -> Any:
            await fan_out(connection, *arguments, **options)
            await connection.execute("commit")
            await connection.execute("begin")  # for asyncpg to roll back
            raise ConnectionResetError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox, "fan_out", lost)
            with suppress(ConnectionResetError):
                self.run(self.engine.fanout.run_once())

    @precondition(lambda self: self.zombies)
    @rule()
    def record_late(self) -> None:
        """The worker that was cut off writes down what it had."""
        for zombie in self.zombies:
            self.run(zombie.record.run_once())
        self.zombies = []

    # what must hold

    @rule()
    def settle(self) -> None:
        """All steps run until there is nothing to do: then nothing that is due sleeps."""
        self.failed = True
        if self.zombies:
            self.record_late()
        self.run(self.work_until_idle())
        self.clock.advance(1.01)  # the outbox is read from the head again after a second
        self.run(self.work_until_idle())
        self.run(self.look())
        self.failed = False

    async def work_until_idle(self) -> None:
        """Run all steps, and answer all requests, until nobody does anything."""
        engine, idle = self.engine, 0
        for _ in range(ROUNDS):
            await engine.shards.run_once()
            await engine.refresh.run_once()
            done = await engine.fanout.run_once()
            done += await engine.pulling.run_once()
            done += await engine.send.run_once()
            await turn()
            done += self.subscribers.answer_all()
            await turn()
            done += await engine.record.run_once()
            done += await engine.reap.run_once()
            idle = 0 if done else idle + 1
            if idle > len(NAMES):  # a reading may find nothing for one lane, and leave no room to ask for the others
                return
        raise AssertionError("the steps find something to do again and again")

    async def look(self) -> None:
        """Look at the database, and compare it with what the worker knows."""
        rows = await self.stage.connection.fetch(
            """
            select
              deliveries.id, endpoint_id, state, archived_at, url,
              extract(epoch from due_at)::float8 as due_at, extract(epoch from expires_at)::float8 as expires_at
            from dispatcher.deliveries
            join dispatcher.endpoints on endpoints.id = endpoint_id
            where due_at < 'infinity'
            """
        )
        now = self.clock.now()
        lanes = self.engine._lanes
        wake = lanes.next_wake(now)
        for row in rows:
            said = f"{dict(row)}, now {now}, next wake {wake}, {lanes.view(row['endpoint_id'])}"
            assert row["state"] != "disabled", said
            assert row["expires_at"] is None or row["expires_at"] > now, said
            if row["state"] != "active":
                continue
            lane = lanes._lanes[row["endpoint_id"]]
            waits_for = max(row["due_at"], lane.cool_until, lane.allowed_at)
            assert waits_for > now, said
            assert wake is not None, said
            assert wake <= waits_for, said
        assert await self.stage.connection.fetchval("select count(*) from dispatcher.outbox_unread") == 0
        assert await self.orphans() == []
        assert lanes.in_flight() == 0
        assert lanes.unrecorded == 0
        await self.engine.sweep.run_once()
        assert self.overtaken() == 0

    async def orphans(self) -> list[Any]:
        """Ordering keys whose first delivery waits for nothing."""
        return list(
            await self.stage.connection.fetch(
                """
                select endpoint_id, ordering_key from dispatcher.deliveries
                where ordering_key is not null
                group by endpoint_id, ordering_key
                having min(due_at) = 'infinity'
                """
            )
        )

    def overtaken(self) -> float:
        """What sweeps have found so far."""
        return self.metrics.registry.get_sample_value("dispatcher_overtaken_rows_total", {"table": "deliveries"}) or 0.0

    def teardown(self) -> None:
        """Settle once more, and stop."""
        try:
            while self.open_transactions:
                self.end_transaction("commit")
            if not self.failed:
                self.settle()
        finally:
            self.run(self.leave(self.engine))


@pytest.fixture
def stage(postgres_server: EmbeddedPostgres) -> Iterator[Stage]:
    """A database and a loop for all examples, and batches of a few rows, so that most work needs several."""
    stage = Life.stage = Stage(postgres_server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fanout, "BATCH", 6)
        patch.setattr(fanout, "PER_SHARD", 3)
        patch.setattr(feed, "PULL", 5)
        patch.setattr(record, "BATCH", 3)
        patch.setattr(reap, "BATCH", 2)
        yield stage
    stage.close()


def test_no_delivery_sleeps_when_it_is_due(stage: Stage) -> None:
    """Whatever happens, in whatever order."""
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def lost_fan_out(life: Life) -> None:
    """A batch is fanned out, and nobody hears of it."""
    life.insert("one", 2, None, None, None)
    life.settle()
    life.insert("one", 2, None, None, None)
    life.lose_the_connection_while_fanning_out()


def lost_record(life: Life) -> None:
    """Retries are written down, and nobody hears of it."""
    life.behave("a", "fails")
    life.insert("one", 2, None, None, None)
    life.work_in_order(4)
    life.lose_the_connection_while_recording()
    life.settle()
    life.pass_time(5.0)


def late_retry(life: Life) -> None:
    """A worker that was cut off writes retries down while its successor sends the same deliveries."""
    life.behave("a", "fails")
    life.insert("one", 2, None, None, None)
    life.work_in_order(0)
    life.die(zombie=True)
    life.work_in_order(0)
    life.record_late()
    life.settle()
    life.pass_time(5.0)


def late_promotion(life: Life) -> None:
    """A worker that was cut off ends the first delivery of an ordering key, and makes the next one due."""
    life.insert("one", 2, "k", None, None)
    life.work_in_order(0)
    life.die(zombie=True)
    life.work_in_order(0)
    life.work_in_order(0)
    life.record_late()
    life.subscribers.answer_all()


@pytest.mark.parametrize("happens", [lost_fan_out, lost_record, late_retry, late_promotion])
def test_what_once_slept(stage: Stage, happens: Callable[[Life], None]) -> None:
    """Found by thinking, and proven by this: each of these left deliveries to the sweep."""
    life = Life()
    happens(life)

    life.settle()

    life.teardown()
