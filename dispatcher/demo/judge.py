"""Decides whether the demo went as it should have, from what was seen at both ends; does nothing itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage

from dispatcher.demo import scenario
from dispatcher.demo.receiver import Arrival
from dispatcher.demo.scenario import FAILING, Example
from dispatcher.model import DeliveryState, EndpointId, EventId
from dispatcher.store.history import DeliveryRow, EventRow


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when all is over."""

    paths: Mapping[EndpointId, str]
    events: Sequence[EventRow]
    deliveries: Sequence[DeliveryRow]
    arrivals: Sequence[Arrival]
    mails: Sequence[EmailMessage]
    complaints: Sequence[str] = ()
    """What the service itself logged as an error."""


def problems(facts: Facts) -> list[str]:
    """Say what is not as it should be, one sentence each; nothing if all is well."""
    return [
        *_events(facts),
        *_deliveries(facts),
        *_unbidden(facts),
        *_mails(facts),
        *(f"The service logged an error: {complaint}" for complaint in facts.complaints),
    ]


def _events(facts: Facts) -> Iterator[str]:
    """Look for exactly what was committed, byte for byte."""
    found = [_written(event) for event in facts.events]
    for example in scenario.COMMITTED_EXAMPLES:
        if found.count(_written(example)) != 1:
            yield f"{example.event_type} of {example.tenant} is not in the outbox exactly once."
    for example in scenario.ROLLED_BACK.examples:
        if _written(example) in found:
            yield f"{example.event_type} was rolled back, but is in the outbox."


def _written(event: EventRow | Example) -> tuple[str, str, str]:
    return event.tenant, event.event_type, event.payload


def _deliveries(facts: Facts) -> Iterator[str]:
    """Look for one delivery per event and endpoint, and for its requests at the receiver."""
    examples = {_written(example): example for example in scenario.COMMITTED_EXAMPLES}
    for event in facts.events:
        if (example := examples.get(_written(event))) is not None:
            yield from _deliveries_of(event.id, example, facts)


def _deliveries_of(event_id: EventId, example: Example, facts: Facts) -> Iterator[str]:
    found: dict[str, list[DeliveryRow]] = {path: [] for path in example.wanted_by}
    for delivery in facts.deliveries:
        if delivery.event_id == event_id:
            found.setdefault(facts.paths.get(delivery.endpoint_id, "?"), []).append(delivery)
    for path, deliveries in found.items():
        name = f"{example.event_type} to {path}"
        if path not in example.wanted_by:
            yield f"{name}: a delivery that nobody asked for."
        elif len(deliveries) != 1:
            yield f"{name}: {len(deliveries)} deliveries instead of one."
        else:
            came = [one for one in facts.arrivals if (one.webhook_id, one.path) == (str(event_id), path)]
            for problem in _delivery(deliveries[0], came, payload=example.payload.encode(), path=path):
                yield f"{name}: {problem}"


def _delivery(delivery: DeliveryRow, came: Sequence[Arrival], *, payload: bytes, path: str) -> Iterator[str]:
    """Compare a delivery with the requests that came of it."""
    wanted = scenario.expected_state(path)
    if delivery.state is not wanted:
        yield f"{delivery.state}, not {wanted}. {delivery.error or ''}".rstrip()
        return
    accepted, planned = sum(one.accepted for one in came), len(scenario.FAILING_SCHEDULE) + 1
    if wanted is DeliveryState.DELIVERED and (accepted, len(came)) != (1, 1):
        yield f"it came {len(came)} times and was accepted {accepted} times, instead of once."
    if wanted is DeliveryState.DEAD and (delivery.attempts, len(came)) != (planned, planned):
        yield f"{delivery.attempts} attempts are on record and {len(came)} requests came, instead of {planned}."
    raw = any(hook.path == path and hook.payload_format == "raw" for hook in scenario.HOOKS)
    if any((one.body != payload) if raw else (payload not in one.body) for one in came):
        yield "the payload's bytes did not arrive as they were inserted."


def _unbidden(facts: Facts) -> Iterator[str]:
    known = {str(event.id) for event in facts.events}
    for arrival in facts.arrivals:
        if arrival.problem is not None:
            yield f"{arrival.event_type} at {arrival.path} could not be verified: {arrival.problem}."
        if arrival.webhook_id not in known:
            yield f"{arrival.event_type} arrived at {arrival.path}, but no such event was committed."
    for delivery in facts.deliveries:
        if delivery.state is DeliveryState.PENDING:
            yield f"{delivery.event_type} to {facts.paths.get(delivery.endpoint_id, '?')} is still pending."


def _mails(facts: Facts) -> Iterator[str]:
    if len(facts.mails) != 1:
        yield f"{len(facts.mails)} mails came, instead of one about the delivery that was given up."
        return
    mail = facts.mails[0]
    dead = [str(one.event_id) for one in facts.deliveries if one.state is DeliveryState.DEAD]
    body = mail.get_body(("plain",))
    text = "" if body is None else str(body.get_content())
    if mail["To"] != FAILING.notification_email or not dead or any(event_id not in text for event_id in dead):
        yield f"The mail to {mail['To']} does not tell {FAILING.notification_email} of the delivery that was given up."
