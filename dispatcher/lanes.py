"""In-process scheduling for the shards that this worker owns: which delivery goes next, and which rows to read next.

Holds one `Lane` per endpoint with work. Pure bookkeeping, O(1) or O(log n) per delivery however many lanes exist:
`deliver` asks (`pulls`, `start`, `next_wake`) and tells (`hand_over`, `pulled`, `finish`, `recorded`), and does the
reading, sending and recording in between. A delivery is in one place at a time: held, in flight, or sent with its
result unrecorded; while it is in any of them it is not taken in again, whatever the database still says.

Lanes that may start something wait in line by how many requests they have in flight, fewest first: when slots are
scarce, a lane with 100,000 deliveries waiting gets its next one only after every lane with fewer in flight. What only
time can change (a pause, a rate limit, a retry that is not due yet) waits in a heap.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from dispatcher.lane import HEAD, Lane, LaneView, Pace, Pull, key_of
from dispatcher.model import (
    SHARD_COUNT,
    Delivery,
    DeliveryId,
    Endpoint,
    EndpointId,
    Health,
    Judgement,
    Shard,
)
from dispatcher.turns import Turns

SMALLEST_PULL = 8
"""Rows per lane, at least, when many lanes want to read: fewer would make more queries than deliveries."""

RESERVED = 4
"""One part in four of the rows in memory is kept for lanes that hold none: a lane's first delivery finds room although
thousands of slow endpoints have filled theirs."""

FEW = 200
"""Rows of one lane that are held however large their payloads are; beyond it only small ones are, so that one endpoint's
backlog takes no more than some megabytes."""

SMALL = 4096
"""Characters of a payload."""

CLOCK_SLACK = 0.05
"""Seconds: rows handed over are taken as due a little early, because `now` may lag behind the clock of the database
that has just stamped them."""


class Lanes:
    """The lanes of one worker."""

    def __init__(
        self,
        *,
        start_in_flight: int = 4,
        lane_in_flight: int = 64,
        total_in_flight: int = 512,
        held: int = 2000,
        held_total: int = 20_000,
        pause_first: float = 0.5,
        pause_longest: float = 30.0,
    ) -> None:
        """Limit requests in flight per lane and in all, and rows in memory per lane and in all; pauses in seconds."""
        self._pace = Pace(
            start_in_flight=min(start_in_flight, lane_in_flight),
            lane_in_flight=lane_in_flight,
            held=held,
            pause_first=pause_first,
            pause_longest=pause_longest,
        )
        self._total_in_flight = total_in_flight
        self._held_total = held_total

        self._lanes: dict[EndpointId, Lane] = {}
        self._by_shard: dict[Shard, set[Lane]] = {}
        self._stopped: set[Shard] = set()
        self._unknown: dict[EndpointId, float] = {}
        self._known: dict[DeliveryId, Lane] = {}
        self._busy = [0] * SHARD_COUNT

        self._turns = Turns(lane_in_flight)

        self._held = 0
        self._asked = 0
        self._in_flight = 0
        self._unrecorded = 0
        self._now = -inf
        """The latest instant that was heard of, for the calls that bring none."""

    # what the worker knows of endpoints

    def set_endpoint(self, endpoint: Endpoint, now: float) -> None:
        """Create or change an endpoint's lane; one that becomes active reads from the head again.

        Deliveries that wait are let go of unless the endpoint is active: to kill or keep the rows is the caller's.
        """
        self._now = now
        lane = self._lanes.get(endpoint.id)
        if lane is not None and lane.endpoint.shard != endpoint.shard:
            self.forget_endpoint(endpoint.id)
            lane = None
        if lane is None:
            lane = self._lanes[endpoint.id] = Lane(endpoint, self._pace, now=now)
            self._by_shard.setdefault(endpoint.shard, set()).add(lane)
            self._unknown.pop(endpoint.id, None)
        else:
            lane.change(endpoint, now=now)
        lane.open = lane.active and endpoint.shard not in self._stopped
        if not lane.open or lane.cool_until > now:
            self._let_go(lane)
        self._turns.place(lane, now)

    def endpoint(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Return an endpoint as it was last set, if it has a lane."""
        lane = self._lanes.get(endpoint_id)
        return None if lane is None else lane.endpoint

    def health(self, endpoint_id: EndpointId) -> Health:
        """Return an endpoint's health, `hung` and `cool_until` as the lane sees them now; all is well if unknown."""
        lane = self._lanes.get(endpoint_id)
        return Health() if lane is None else lane.health()

    def set_health(self, endpoint_id: EndpointId, health: Health) -> None:
        """Remember what was written down; the lane's pace does not follow it."""
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.set_health(health)

    def unknown(self) -> set[EndpointId]:
        """Return the endpoints that have work and no lane: to be loaded and set, or forgotten."""
        return set(self._unknown)

    def forget_endpoint(self, endpoint_id: EndpointId) -> None:
        """Drop a lane. What is in flight stays known until it is recorded."""
        self._unknown.pop(endpoint_id, None)
        lane = self._lanes.pop(endpoint_id, None)
        if lane is None:
            return
        self._by_shard[lane.endpoint.shard].discard(lane)
        lane.gone, lane.open = True, False
        self._let_go(lane)
        if lane.pull is not None:
            self._asked -= lane.pull.count
            lane.pull = None
        self._held -= len(lane.aside)
        lane.aside = []
        self._turns.remove(lane)

    def forget_shard(self, shard: Shard) -> None:
        """Drop a shard's lanes: it belongs to another worker now."""
        for lane in tuple(self._by_shard.get(shard, ())):
            self.forget_endpoint(lane.endpoint.id)
        self._by_shard.pop(shard, None)
        self._stopped.discard(shard)

    def hold_shard(self, shard: Shard) -> None:
        """Start and read nothing more for a shard that is being given back; `in_flight` tells when it is drained."""
        self._stopped.add(shard)
        for lane in self._by_shard.get(shard, ()):
            lane.open = False
            self._let_go(lane)
            self._turns.place(lane, self._now)

    def resume_shard(self, shard: Shard) -> None:
        """Go on with a shard that is not given back after all."""
        self._stopped.discard(shard)
        for lane in self._by_shard.get(shard, ()):
            lane.open = lane.active
            self._turns.place(lane, self._now)

    def evict(self, now: float, *, idle: float = 600) -> list[EndpointId]:
        """Drop the lanes that have done nothing for `idle` seconds and have nothing to remember; return which.

        Looks at every lane: to be called now and then.
        """
        self._now = now
        since = now - idle
        ids = [id_ for id_, lane in self._lanes.items() if lane.active_at <= since and lane.forgettable(now)]
        for endpoint_id in ids:
            self.forget_endpoint(endpoint_id)
        return ids

    # where work comes from

    def hand_over(self, deliveries: Iterable[Delivery], now: float) -> None:
        """Take rows that were just made and committed.

        They are kept where the lane has room and has read all that is due before them; the others wait in the
        database until they are pulled.
        """
        self._now = now
        touched: dict[Lane, None] = {}
        for delivery in deliveries:
            lane = self._lanes.get(delivery.endpoint_id)
            if lane is None:
                self.note(delivery.endpoint_id, delivery.due_at)
            elif delivery.id not in self._known:
                self._keep(lane, delivery, now)
                touched[lane] = None
        for lane in touched:
            self._turns.place(lane, now)

    def _keep(self, lane: Lane, delivery: Delivery, now: float) -> None:
        """Hold a row that is known to be pending, or note it if it must wait for its turn in the database."""
        may_hold = lane.open and not lane.hung and lane.cool_until <= now and delivery.due_at <= now + CLOCK_SLACK
        held = len(lane.held) + len(lane.aside)
        if (
            not may_hold
            or held >= lane.most_held
            or (held >= FEW and len(delivery.event.payload) > SMALL)
            or self._room_for(holding=bool(lane.held)) <= 0
        ):
            lane.miss(key_of(delivery))
        elif lane.pull is not None:
            lane.aside.append(delivery)
            self._held += 1
        elif lane.unread_due <= delivery.due_at:
            lane.miss(key_of(delivery))
        else:
            # All that is unread is due later than this row, so the cursor may move past it.
            lane.cursor = max(lane.cursor, key_of(delivery))
            self._hold(lane, delivery)

    def _hold(self, lane: Lane, delivery: Delivery) -> None:
        lane.held.append(delivery)
        self._known[delivery.id] = lane
        self._held += 1

    def note(self, endpoint_id: EndpointId, due_at: float) -> None:
        """Hear that an endpoint has work in the database, the first of it due at `due_at`."""
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            self._unknown[endpoint_id] = min(due_at, self._unknown.get(endpoint_id, inf))
        elif due_at < inf:
            lane.miss((due_at, -1))
            self._turns.place(lane, self._now)

    def rewind(self, endpoint_id: EndpointId) -> None:
        """Read an endpoint's rows from the head again: some were overtaken, or moved by a person."""
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            self._unknown[endpoint_id] = -inf
        else:
            lane.miss(HEAD)
            self._turns.place(lane, self._now)

    def pulls(self, now: float, limit: int) -> list[Pull]:
        """Return what to read, `limit` rows in all at most: first for lanes that hold nothing, then in turn.

        Each must be answered by `pulled` or `pull_failed`; a lane asks one question at a time.
        """
        self._now = now
        self._turns.pass_time(now)
        wishes: list[Pull] = []
        share = max(SMALLEST_PULL, limit // max(1, len(self._turns.starved) + len(self._turns.hungry)))
        for queue, holding in ((self._turns.starved, False), (self._turns.hungry, True)):
            while queue and limit > 0:
                lane = next(iter(queue))
                rows = min(lane.wanted() - len(lane.held), share, limit, self._room_for(holding=holding))
                if rows <= 0:
                    break
                wishes.append(lane.ask(rows))
                self._asked += rows
                limit -= rows
                self._turns.place(lane, now)
        return wishes

    def pulled(self, pull: Pull, deliveries: Sequence[Delivery], next_due: float | None, now: float) -> None:
        """Take the rows that were read for a pull, in order.

        Fewer than `pull.count` rows mean that nothing more is due; `next_due` is then the first later due instant in
        the database, None if nothing else is pending.
        """
        self._now = now
        lane = self._lanes.get(pull.endpoint_id)
        if lane is None or lane.pull is not pull:
            return
        self._asked -= pull.count
        settled = lane.close_pull(deliveries, next_due)
        fresh = [row for row in deliveries if row.id not in self._known and row.id not in settled]
        if not lane.open or lane.cool_until > now:
            lane.miss_all(fresh)
        else:
            room = max(0, min(lane.most_held - len(lane.held), self._held_total - self._held))
            for delivery in fresh[:room]:
                self._hold(lane, delivery)
            lane.miss_all(fresh[room:])
        self._reconsider_aside(lane, now)
        self._turns.place(lane, now)

    def pull_failed(self, pull: Pull, now: float) -> None:
        """Hear that a pull could not be read; it is asked for again at once, so the caller should wait a little."""
        self._now = now
        lane = self._lanes.get(pull.endpoint_id)
        if lane is None or lane.pull is not pull:
            return
        self._asked -= pull.count
        lane.pull = None
        self._reconsider_aside(lane, now)
        self._turns.place(lane, now)

    def _reconsider_aside(self, lane: Lane, now: float) -> None:
        rows, lane.aside = lane.aside, []
        self._held -= len(rows)
        for delivery in rows:
            if delivery.id not in self._known:
                self._keep(lane, delivery, now)

    # sending

    def start(self, now: float, limit: int | None = None) -> list[Delivery]:
        """Return what to send right now; each must come back by `finish`, `skip` or `release`."""
        self._now = now
        self._turns.pass_time(now)
        slots = self._slots
        if limit is not None and limit < slots:
            slots = limit
        started: list[Delivery] = []
        turns = self._turns
        while slots > 0 and (lane := turns.first()) is not None:
            delivery = lane.held.popleft()
            lane.flying[delivery.id] = lane.round
            lane.active_at = now
            if lane.interval:
                lane.take_turn(now)
            self._held -= 1
            self._in_flight += 1
            self._busy[delivery.shard] += 1
            slots -= 1
            started.append(delivery)
            turns.place(lane, now)
        return started

    def finish(self, delivery: Delivery, judgement: Judgement, now: float) -> None:
        """Hear what an attempt came to: its slot is free, the lane adapts, the result is to be recorded.

        An endpoint that asks never to be called again gets nothing more from this instant on.
        """
        self._now = now
        landed = self._land(delivery)
        if landed is None:
            return
        lane, started_in = landed
        lane.heed(judgement, current=started_in == lane.round, now=now)
        if judgement.disable:
            lane.stop()
        if lane.hung or lane.cool_until > now or judgement.disable:
            self._let_go(lane)
        self._turns.place(lane, now)

    def skip(self, delivery: Delivery, now: float) -> None:
        """Hear that a delivery ends without being sent (it expired, for one); that is to be recorded.

        A rate limit counts it all the same, as it does what is released: to give the allowance back later would let
        more requests through at that moment than the rate.
        """
        self._now = now
        landed = self._land(delivery)
        if landed is not None:
            lane, _ = landed
            self._turns.place(lane, now)

    def _land(self, delivery: Delivery) -> tuple[Lane, int] | None:
        """Move a delivery from in flight to unrecorded; return its lane and the round in which it was started."""
        lane = self._known.get(delivery.id)
        started_in = None if lane is None else lane.flying.pop(delivery.id, None)
        if lane is None or started_in is None:
            return None
        lane.unrecorded.add(delivery.id)
        self._in_flight -= 1
        self._unrecorded += 1
        return lane, started_in

    def recorded(self, endpoint_id: EndpointId, delivery_id: DeliveryId, next_due: float | None) -> None:
        """Hear that a result is committed; `next_due` is when the delivery is due again, None if it has ended."""
        sender = self._known.get(delivery_id)
        if sender is not None and delivery_id in sender.unrecorded:
            del self._known[delivery_id]
            sender.unrecorded.remove(delivery_id)
            self._unrecorded -= 1
            self._busy[sender.endpoint.shard] -= 1
        # The shard may have been lost and won back since the attempt: the lane is not always the one that sent.
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            return
        if lane.pull is not None:
            lane.settled.add(delivery_id)
        if next_due is not None and next_due < inf:
            lane.miss((next_due, delivery_id))
            self._turns.place(lane, self._now)

    def release(self, delivery: Delivery) -> None:
        """Hear that a delivery was not sent after all; it waits in the database as before."""
        sender = self._known.get(delivery.id)
        if sender is None or sender.flying.pop(delivery.id, None) is None:
            return
        del self._known[delivery.id]
        self._in_flight -= 1
        self._busy[delivery.shard] -= 1
        lane = self._lanes.get(delivery.endpoint_id)
        if lane is not None:
            lane.miss(key_of(delivery))
            self._turns.place(lane, self._now)

    def next_wake(self, now: float) -> float | None:
        """Return the earliest instant at which `start` or `pulls` may have something; `now` if they have it already.

        None: not before something is handed over, noted, finished or set.
        """
        self._now = now
        self._turns.pass_time(now)
        can_start = self._turns.first() is not None and self._slots > 0
        can_pull = (self._turns.starved and self._room_for(holding=False) > 0) or (
            self._turns.hungry and self._room_for(holding=True) > 0
        )
        if can_start or can_pull:
            return now
        return self._turns.next_wake()

    # eyes

    def awaits(self, endpoint_id: EndpointId, due_at: float) -> bool:
        """Tell whether work that is due at `due_at` can be overlooked no more: its lane knows of it, or soon will."""
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            return endpoint_id in self._unknown
        in_memory = lane.held or lane.flying or lane.unrecorded
        return bool(in_memory) or lane.pull is not None or lane.unread_due <= due_at

    def holds(self, endpoint_id: EndpointId) -> list[DeliveryId]:
        """Return the deliveries of an endpoint that wait in memory, to be sent next."""
        lane = self._lanes.get(endpoint_id)
        return [] if lane is None else [delivery.id for delivery in lane.held]

    def in_flight(self, shard: Shard | None = None) -> int:
        """Count requests in flight; for a shard, with the results that are not recorded yet: 0 means drained."""
        return self._in_flight if shard is None else self._busy[shard]

    @property
    def held(self) -> int:
        """Count the rows that wait in memory."""
        return self._held

    @property
    def unrecorded(self) -> int:
        """Count the results that are not recorded yet."""
        return self._unrecorded

    def oldest_due(self) -> float | None:
        """Return the earliest due instant of what waits, in memory or, as far as is known, unread; looks at all."""
        dues = (lane.oldest_due() for lane in self._lanes.values() if lane.open)
        return min((due for due in dues if due is not None), default=None)

    def view(self, endpoint_id: EndpointId) -> LaneView | None:
        """Describe one lane."""
        lane = self._lanes.get(endpoint_id)
        return None if lane is None else lane.view()

    def views(self) -> Iterator[LaneView]:
        """Describe all lanes, in no particular order."""
        return (lane.view() for lane in self._lanes.values())

    # memory

    @property
    def _slots(self) -> int:
        """How many more requests may be started.

        A result keeps its request's slot until it is recorded: what a crash may repeat, and what an outage of the
        database may pile up, is no more than the limit.
        """
        return self._total_in_flight - self._in_flight - self._unrecorded

    def _room_for(self, *, holding: bool) -> int:
        """Return how many more rows fit into memory, for a lane that holds some already, or none."""
        reserved = self._held_total // RESERVED if holding else 0
        return self._held_total - reserved - self._held - self._asked

    def _let_go(self, lane: Lane) -> None:
        """Forget the rows that a lane holds: they are in the database, and memory is for lanes that can send."""
        for delivery in lane.held:
            del self._known[delivery.id]
        self._held -= len(lane.held)
        lane.miss_all(lane.held)
        lane.held.clear()
