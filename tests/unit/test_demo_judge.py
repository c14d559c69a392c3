"""The demo's own verdict: says nothing when all went well, and names whatever did not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest

from dispatcher.demo import judge, scenario
from dispatcher.demo.judge import Facts
from dispatcher.demo.receiver import Arrival
from dispatcher.demo.scenario import Example
from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, Shard
from dispatcher.store.history import DeliveryRow, EventRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = {EndpointId(UUID(int=number)): hook.path for number, hook in enumerate(scenario.HOOKS, 1)}
ENDPOINTS = {path: endpoint_id for endpoint_id, path in PATHS.items()}


def event_of(number: int, example: Example) -> EventRow:
    """An event as it stands in the outbox."""
    return EventRow(
        id=EventId(UUID(int=number)),
        tenant=example.tenant,
        event_type=example.event_type,
        payload=example.payload,
        occurred_at=NOW,
        inserted_at=NOW,
        deliver_at=None,
        expires_at=None,
        idempotency_key=None,
        ordering_key=None,
        shard=Shard(0),
    )


def delivery_of(event: EventRow, path: str) -> DeliveryRow:
    """A delivery that ended as it should."""
    state = scenario.expected_state(path)
    return DeliveryRow(
        id=DeliveryId(event.id.int * 100 + len(path)),
        tenant=event.tenant,
        shard=event.shard,
        endpoint_id=ENDPOINTS[path],
        url=f"http://127.0.0.1:1{path}",
        event_id=event.id,
        event_type=event.event_type,
        event_at=NOW,
        state=state,
        created_at=NOW,
        attempts=3 if state is DeliveryState.DEAD else 1,
        manual=False,
    )


def arrivals_of(event: EventRow, path: str) -> list[Arrival]:
    """The requests that came of a delivery."""
    fails = scenario.expected_state(path) is DeliveryState.DEAD
    raw = next(hook.payload_format for hook in scenario.HOOKS if hook.path == path) == "raw"
    return [
        Arrival(
            received_at=0.0,
            path=path,
            webhook_id=str(event.id),
            event_type=event.event_type,
            body=(event.payload if raw else f'{{"data":{event.payload}}}').encode(),
            problem=None,
            attempt=number,
            duplicate=False,
            status=500 if fails else 204,
        )
        for number in range(1, 4 if fails else 2)
    ]


def good() -> Facts:
    """What there is to see when all went well."""
    events = [event_of(number, example) for number, example in enumerate(scenario.COMMITTED_EXAMPLES, 1)]
    wanted = [
        (event, path)
        for event, example in zip(events, scenario.COMMITTED_EXAMPLES, strict=True)
        for path in example.wanted_by
    ]
    deliveries = [delivery_of(event, path) for event, path in wanted]
    mail = EmailMessage()
    mail["To"] = scenario.FAILING.notification_email
    mail.set_content(" ".join(str(one.event_id) for one in deliveries if one.state is DeliveryState.DEAD))
    return Facts(
        paths=PATHS,
        events=events,
        deliveries=deliveries,
        arrivals=[arrival for event, path in wanted for arrival in arrivals_of(event, path)],
        mails=[mail],
    )


def test_finds_nothing_when_all_went_well() -> None:
    """Everything as planned is no problem."""
    assert judge.problems(good()) == []


def lost_request(facts: Facts) -> Facts:
    """A delivery is on record, but nothing came."""
    return replace(facts, arrivals=facts.arrivals[1:])


def duplicate_request(facts: Facts) -> Facts:
    """The same message came twice."""
    return replace(facts, arrivals=[facts.arrivals[0], *facts.arrivals])


def bad_signature(facts: Facts) -> Facts:
    """A request could not be verified."""
    return replace(facts, arrivals=[replace(facts.arrivals[0], problem="no", status=401), *facts.arrivals[1:]])


def changed_bytes(facts: Facts) -> Facts:
    """A body is not what was inserted."""
    first = facts.arrivals[0]
    return replace(facts, arrivals=[replace(first, body=first.body.replace(b" ", b"")), *facts.arrivals[1:]])


def still_pending(facts: Facts) -> Facts:
    """A delivery has not ended."""
    return replace(facts, deliveries=[replace(facts.deliveries[0], state=DeliveryState.PENDING), *facts.deliveries[1:]])


def survivor(facts: Facts) -> Facts:
    """What should have died was delivered."""
    return replace(facts, deliveries=[replace(one, state=DeliveryState.DELIVERED) for one in facts.deliveries])


def too_few_attempts(facts: Facts) -> Facts:
    """It was given up too soon."""
    return replace(facts, deliveries=[replace(one, attempts=1) for one in facts.deliveries])


def lost_event(facts: Facts) -> Facts:
    """An event is not there."""
    return replace(facts, events=facts.events[1:])


def ghost(facts: Facts) -> Facts:
    """What was rolled back is there."""
    return replace(facts, events=[*facts.events, event_of(99, scenario.ROLLED_BACK.examples[0])])


def unasked(facts: Facts) -> Facts:
    """An event that nobody wants was delivered."""
    unwanted = next(event for event in facts.events if event.event_type == "write-to-record.failed")
    return replace(facts, deliveries=[*facts.deliveries, delivery_of(unwanted, "/hero")])


def no_mail(facts: Facts) -> Facts:
    """Nobody was told."""
    return replace(facts, mails=[])


def other_mail(facts: Facts) -> Facts:
    """A mail came that tells of something else."""
    mail = EmailMessage()
    mail["To"] = scenario.FAILING.notification_email
    mail.set_content("Good morning.")
    return replace(facts, mails=[mail])


def logged_fault(facts: Facts) -> Facts:
    """The service had a fault."""
    return replace(facts, complaints=["step.failed fanout"])


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (lost_request, "came 0 times and was accepted 0 times"),
        (duplicate_request, "came 2 times"),
        (bad_signature, "could not be verified"),
        (changed_bytes, "did not arrive as they were inserted"),
        (still_pending, "still pending"),
        (survivor, "delivered, not dead"),
        (too_few_attempts, "1 attempts are on record"),
        (lost_event, "not in the outbox exactly once"),
        (ghost, "was rolled back, but is in the outbox"),
        (unasked, "nobody asked for"),
        (no_mail, "0 mails came"),
        (other_mail, "does not tell"),
        (logged_fault, "step.failed fanout"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_names_what_went_wrong(spoil: Callable[[Facts], Facts], expected: str) -> None:
    """Each thing that can go wrong is named."""
    assert any(expected in problem for problem in judge.problems(spoil(good())))
