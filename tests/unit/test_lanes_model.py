"""Lanes against a model of the database: whatever the order of events, nothing sleeps, nothing is sent twice."""

from dataclasses import dataclass, replace
from math import inf
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dispatcher.lane import Pull, key_of
from dispatcher.lanes import Lanes
from dispatcher.model import (
    DeathReason,
    Delivery,
    DeliveryId,
    Done,
    Endpoint,
    EndpointId,
    EndpointState,
    Event,
    EventId,
    GiveUp,
    Judgement,
    Pressure,
    Retry,
    Shard,
)

BEGIN = 1_700_000_000.0
EVENT = Event(EventId(UUID(int=0)), "acme", "appointment.created", "{}", BEGIN, BEGIN)
RATE, LIMITED = 4.0, 2
LANE_IN_FLIGHT, TOTAL_IN_FLIGHT, HELD, HELD_TOTAL = 6, 9, 5, 11

ENDPOINTS = tuple(
    Endpoint(
        id=EndpointId(UUID(int=n)),
        shard=Shard(n % 2),
        tenant="acme",
        url="https://example.com/",
        state=EndpointState.ACTIVE,
        secrets=(),
        rate_limit=RATE if n == LIMITED else None,
    )
    for n in range(3)
)

OK = Judgement(Done(), Pressure.OK)
JUDGEMENTS = st.one_of(
    st.just(OK),
    st.builds(
        Judgement,
        st.one_of(
            st.sampled_from([0.0, 0.1, 1.0, 5.0, 300.0]).map(Retry),
            st.just(GiveUp(DeathReason.EXHAUSTED)),
        ),
        st.sampled_from([Pressure.NEUTRAL, Pressure.STRAINED, Pressure.THROTTLED, Pressure.HUNG]),
        pause=st.sampled_from([None, None, 3.0]),
    ),
    st.just(Judgement(GiveUp(DeathReason.GONE), Pressure.NEUTRAL, disable=True)),
)

endpoints = st.sampled_from([0, 0, 0, 1, LIMITED])
which = st.integers(0, 99)
mostly = st.sampled_from([True, True, True, False])


@dataclass
class Question:
    """A pull on its way, and what the database answered once it was read."""

    pull: Pull
    answer: tuple[list[Delivery], float | None] | None = None


class LanesMachine(RuleBasedStateMachine):
    """Play database, fan-out, sender, recorder and operator; every hop may be overtaken by any other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.lanes = Lanes(
            start_in_flight=2,
            lane_in_flight=LANE_IN_FLIGHT,
            total_in_flight=TOTAL_IN_FLIGHT,
            held=HELD,
            held_total=HELD_TOTAL,
        )
        self.endpoints = {endpoint.id: endpoint for endpoint in ENDPOINTS}
        self.owned = {Shard(0), Shard(1)}
        self.stopped: set[Shard] = set()
        self.rows: dict[DeliveryId, Delivery] = {}
        self.ended: set[DeliveryId] = set()
        """Recorded as delivered or dead: never to be seen again."""
        self.last_id = 0
        self.unheard: dict[DeliveryId, bool] = {}
        """Committed rows that the lanes were not told of yet; true: made by fan-out, false: to be noted."""
        self.questions: list[Question] = []
        self.flying: dict[DeliveryId, Delivery] = {}
        self.judged: list[tuple[Delivery, Judgement]] = []
        self.committed: list[tuple[Delivery, float | None]] = []
        self.started: list[float] = []
        """Instants at which requests to the rate-limited endpoint were started."""

    # the database

    def insert(self, number: int, *, due_at: float, fanned_out: bool) -> None:
        """Commit a row."""
        endpoint = ENDPOINTS[number]
        self.last_id += 1
        id_ = DeliveryId(self.last_id)
        self.rows[id_] = Delivery(id_, endpoint.shard, endpoint.id, EVENT, due_at, self.now, 0)
        if endpoint.shard in self.owned:
            self.unheard[id_] = fanned_out

    def read(self, pull: Pull) -> tuple[list[Delivery], float | None]:
        """Answer a pull as the database's query does."""
        after = (pull.after_due, pull.after_id)
        mine = sorted((row for row in self.rows.values() if row.endpoint_id == pull.endpoint_id), key=key_of)
        due = [row for row in mine if row.due_at <= self.now and key_of(row) > after][: pull.count]
        later = (row.due_at for row in mine if row.due_at > self.now)
        return due, None if len(due) == pull.count else min(later, default=None)

    def commit(self, delivery: Delivery, judgement: Judgement) -> float | None:
        """Record a result, guarded by the attempt number; return when the delivery is due again."""
        row = self.rows.get(delivery.id)
        if row is None or row.attempts != delivery.attempts:
            return None
        if isinstance(judgement.verdict, Retry):
            due_at = self.now + judgement.verdict.delay
            self.rows[row.id] = replace(row, due_at=due_at, attempts=row.attempts + 1)
            return due_at
        del self.rows[row.id]
        self.ended.add(row.id)
        if judgement.disable:
            self.kill(row.endpoint_id)
        return None

    def kill(self, endpoint_id: EndpointId) -> None:
        """Disable an endpoint: its pending rows die."""
        for id_ in [id_ for id_, row in self.rows.items() if row.endpoint_id == endpoint_id]:
            del self.rows[id_]
            self.unheard.pop(id_, None)
        self.change(endpoint_id, EndpointState.DISABLED)

    def change(self, endpoint_id: EndpointId, state: EndpointState) -> None:
        """Set an endpoint's state, and tell the lanes as far as the shard is owned."""
        self.endpoints[endpoint_id] = endpoint = replace(self.endpoints[endpoint_id], state=state)
        if endpoint.shard in self.owned:
            self.lanes.set_endpoint(endpoint, self.now)

    # what may happen

    @rule(number=endpoints, rows=st.integers(1, 9), wait=st.sampled_from([0.0, 0.0, 0.0, 2.0]), told=mostly)
    def fan_out(self, number: int, rows: int, wait: float, *, told: bool) -> None:
        """An event is fanned out; all its rows carry the transaction's instant."""
        for _ in range(rows):
            self.insert(number, due_at=self.now + wait, fanned_out=True)
        if told:
            self.hear()

    @rule(number=endpoints, age=st.sampled_from([-2.0, 0.0, 0.5, 60.0]), told=mostly)
    def insert_behind_the_back(self, number: int, age: float, *, told: bool) -> None:
        """A person's retry, a replay or an overtaken transaction makes a row due, also long ago."""
        self.insert(number, due_at=self.now - age, fanned_out=False)
        if told:
            self.hear()

    @precondition(lambda self: self.unheard)
    @rule()
    def hear(self) -> None:
        """The lanes are told of rows."""
        kinds = [(self.rows[id_], fanned_out) for id_, fanned_out in self.unheard.items()]
        self.unheard.clear()
        self.lanes.hand_over([row for row, fanned_out in kinds if fanned_out], self.now)
        for row, fanned_out in kinds:
            if not fanned_out:
                self.lanes.note(row.endpoint_id, row.due_at)
        self.load()

    def load(self) -> None:
        """Endpoints that have work are loaded."""
        for endpoint_id in self.lanes.unknown():
            if self.endpoints[endpoint_id].shard in self.owned:
                self.lanes.set_endpoint(self.endpoints[endpoint_id], self.now)
            else:
                self.lanes.forget_endpoint(endpoint_id)

    @rule(limit=st.sampled_from([12, 12, 3]), answered=mostly, looked=st.booleans())
    def ask(self, limit: int, *, answered: bool, looked: bool) -> None:
        """The lanes say what to read."""
        pulls = self.lanes.pulls(self.now, limit)

        assert sum(pull.count for pull in pulls) <= limit
        assert all(self.may_send(pull.endpoint_id) for pull in pulls)
        self.questions += [Question(pull, self.read(pull) if looked else None) for pull in pulls]
        while answered and self.questions:
            self.answer(0)

    @precondition(lambda self: self.questions)
    @rule(n=which)
    def look(self, n: int) -> None:
        """The database answers; the answer is on its way."""
        question = self.questions[n % len(self.questions)]
        question.answer = self.read(question.pull)

    @precondition(lambda self: self.questions)
    @rule(n=which)
    def answer(self, n: int) -> None:
        """An answer arrives."""
        question = self.questions.pop(n % len(self.questions))
        rows, next_due = question.answer or self.read(question.pull)
        self.lanes.pulled(question.pull, rows, next_due, self.now)

    @precondition(lambda self: self.questions)
    @rule(n=which)
    def fail_to_answer(self, n: int) -> None:
        """The database is lost while a pull is read."""
        self.lanes.pull_failed(self.questions.pop(n % len(self.questions)).pull, self.now)

    @rule(limit=st.sampled_from([None, None, None, 1, 3]))
    def start(self, limit: int | None) -> None:
        """Requests go out."""
        cooling = {view.endpoint_id for view in self.lanes.views() if (view.cool_until or 0) > self.now}
        for delivery in self.lanes.start(self.now, limit):
            assert delivery.id not in self.flying
            assert delivery.id not in self.ended
            assert delivery.id not in {row.id for row, _ in [*self.judged, *self.committed]}
            assert self.may_send(delivery.endpoint_id)
            assert delivery.endpoint_id not in cooling
            if delivery.id in self.rows:
                assert delivery == self.rows[delivery.id]
            self.flying[delivery.id] = delivery
            view = self.lanes.view(delivery.endpoint_id)
            assert view is not None
            assert view.in_flight <= (1 if view.hung else view.limit) <= LANE_IN_FLIGHT
            if delivery.endpoint_id == ENDPOINTS[LIMITED].id:
                self.started.append(self.now)

    @precondition(lambda self: self.flying)
    @rule(first=which, count=st.sampled_from([1, 2, 9]), judgement=JUDGEMENTS)
    def finish(self, first: int, count: int, judgement: Judgement) -> None:
        """Answers come, or none do."""
        first %= len(self.flying)
        for id_ in list(self.flying)[first : first + count]:
            delivery = self.flying.pop(id_)
            self.judged.append((delivery, judgement))
            self.lanes.finish(delivery, judgement, self.now)

    @precondition(lambda self: self.flying)
    @rule(n=which)
    def release(self, n: int) -> None:
        """A request is not sent after all."""
        delivery = self.flying.pop(list(self.flying)[n % len(self.flying)])
        self.lanes.release(delivery)

    @precondition(lambda self: self.flying)
    @rule(n=which)
    def skip(self, n: int) -> None:
        """A delivery turns out to have expired."""
        delivery = self.flying.pop(list(self.flying)[n % len(self.flying)])
        self.judged.append((delivery, Judgement(GiveUp(DeathReason.EXPIRED), Pressure.NEUTRAL)))
        self.lanes.skip(delivery, self.now)

    @precondition(lambda self: self.judged)
    @rule(count=st.sampled_from([1, 3, 99]), told=mostly)
    def record(self, count: int, *, told: bool) -> None:
        """A batch of results is committed; the lanes hear of it now or later.

        A fan-out hands its rows over as soon as they are committed: no row is sent and recorded before that.
        """
        if any(delivery.id in self.unheard for delivery, _ in self.judged):
            self.hear()
        batch, self.judged = self.judged[:count], self.judged[count:]
        self.committed += [(delivery, self.commit(delivery, judgement)) for delivery, judgement in batch]
        if told:
            self.hear_of_records()

    @precondition(lambda self: self.committed)
    @rule()
    def hear_of_records(self) -> None:
        """The lanes are told what was committed."""
        for delivery, next_due in self.committed:
            self.lanes.recorded(delivery.endpoint_id, delivery.id, next_due)
        self.committed.clear()

    @rule(
        number=endpoints,
        act=st.sampled_from(["pause", "resume", "resume", "rewind", "rewind", "hold", "keep", "lose", "take", "evict"]),
    )
    def operate(self, number: int, act: str) -> None:
        """A person, the sweep or the owner of the shards does something."""
        endpoint = ENDPOINTS[number]
        match act:
            case "pause":
                self.change(endpoint.id, EndpointState.PAUSED)
            case "resume":
                self.change(endpoint.id, EndpointState.ACTIVE)
            case "rewind" if endpoint.shard in self.owned:
                # Read at once and answered late: what is in flight may be over by then.
                self.lanes.rewind(endpoint.id)
                self.ask(12, answered=False, looked=True)
            case "hold" if endpoint.shard in self.owned:
                self.stopped.add(endpoint.shard)
                self.lanes.hold_shard(endpoint.shard)
            case "keep":
                self.stopped.discard(endpoint.shard)
                self.lanes.resume_shard(endpoint.shard)
            case "lose":
                self.lose(endpoint.shard)
            case "take":
                self.take_over()
            case "evict":
                self.lanes.evict(self.now, idle=1)
            case _:
                pass

    def lose(self, shard: Shard) -> None:
        """A shard is another worker's now."""
        self.owned.discard(shard)
        self.stopped.discard(shard)
        self.lanes.forget_shard(shard)
        self.started = []
        for id_ in [id_ for id_ in self.unheard if self.rows[id_].shard == shard]:
            del self.unheard[id_]

    def take_over(self) -> None:
        """Shards are taken; one query says which endpoints have work, and from when."""
        for shard in {Shard(0), Shard(1)} - self.owned:
            self.owned.add(shard)
            for endpoint in self.endpoints.values():
                dues = [row.due_at for row in self.rows.values() if row.endpoint_id == endpoint.id]
                if endpoint.shard == shard and dues:
                    self.lanes.note(endpoint.id, min(dues))
        self.load()

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, 20.0, None, None]))
    def wait(self, seconds: float | None) -> None:
        """Time passes, or passes until the lanes want to be asked."""
        wake = self.lanes.next_wake(self.now)

        assert wake is None or wake >= self.now
        self.now = self.now + seconds if seconds is not None else wake or self.now

    # what must hold

    def may_send(self, endpoint_id: EndpointId) -> bool:
        """Tell whether an endpoint is active and its shard is to be worked for."""
        endpoint = self.endpoints[endpoint_id]
        active = endpoint.state is EndpointState.ACTIVE
        return active and endpoint.shard in self.owned and endpoint.shard not in self.stopped

    @invariant()
    def counts_agree(self) -> None:
        """The lanes' counts are those of the world, and within the limits."""
        assert len(self.flying) == self.lanes.in_flight()
        assert len(self.judged) + len(self.committed) == self.lanes.unrecorded
        assert self.lanes.in_flight() + self.lanes.unrecorded <= TOTAL_IN_FLIGHT
        aside = sum(len(lane.aside) for lane in self.lanes._lanes.values())
        assert self.lanes.held == aside + sum(view.held for view in self.lanes.views()) <= HELD_TOTAL
        assert all(view.held <= HELD for view in self.lanes.views())
        pulls = [lane.pull for lane in self.lanes._lanes.values() if lane.pull is not None]
        assert self.lanes._asked == sum(pull.count for pull in pulls)
        busy = [*self.flying.values(), *(row for row, _ in [*self.judged, *self.committed])]
        for shard in (Shard(0), Shard(1)):
            assert sum(row.shard == shard for row in busy) == self.lanes.in_flight(shard)

    @invariant()
    def no_row_is_lost(self) -> None:
        """Every pending row is in memory, about to be told of, or past the cursor of a lane that knows to read it."""
        told_later = {*self.unheard, *(delivery.id for delivery, _ in self.committed)}
        for row in self.rows.values():
            endpoint = self.endpoints[row.endpoint_id]
            if row.id in told_later or row.id in self.lanes._known or endpoint.shard not in self.owned:
                continue
            lane = self.lanes._lanes.get(row.endpoint_id)
            if lane is None:
                disabled = endpoint.state is EndpointState.DISABLED
                assert disabled or row.endpoint_id in self.lanes.unknown()
            else:
                aside = row in lane.aside
                assert aside or (key_of(row) > lane.cursor and lane.unread_due <= row.due_at)

    @invariant()
    def rate_is_kept(self) -> None:
        """No window of time sees more requests than the rate allows, and one."""
        for first, begin in enumerate(self.started):
            for more, end in enumerate(self.started[first:]):
                assert more <= RATE * (end - begin) + 1e-3

    def teardown(self) -> None:
        """Let everything succeed from here on: following `next_wake` alone, all that may be sent is sent."""
        self.hear()
        for _ in range(3000):
            self.load()
            while self.questions:
                self.answer(0)
            self.start(None)
            if self.flying:
                self.finish(0, len(self.flying), OK)
            self.record(len(self.judged), told=True)
            self.ask(12, answered=True, looked=True)
            self.counts_agree()
            wake = self.lanes.next_wake(self.now)
            if wake is None:
                break
            self.now = wake

        assert [row for row in self.rows.values() if self.may_send(row.endpoint_id) and row.due_at < inf] == []
        assert self.lanes.held == 0


TestLanesModel = LanesMachine.TestCase
TestLanesModel.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
