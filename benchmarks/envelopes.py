"""What one event costs in Python before it is sent: its body by each payload format, its signatures, a filter.

Pure functions on a 500-byte payload, no process but this one: processor time of the best of several rounds, which
neighbours change least.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from dispatcher.envelope import Envelopes
from dispatcher.expressions import condition, expression, variables_of
from dispatcher.filters import Judge
from dispatcher.formats.definition import check
from dispatcher.formats.writing import compile_format
from dispatcher.model import Endpoint, EndpointId, EndpointState, Event, EventId, Secret, Shard
from dispatcher.payload import resolve

ROUNDS: Final = 7
SECONDS: Final = 0.05
"""Of a round: long against the clock's grain, short against a neighbour's turn."""

VISIT: Final[Mapping[str, object]] = {
    "id": "28540",
    "member_id": "60610",
    "provider_id": None,
    "start": 1546950546,
    "end": 1546951446,
    "actual_start": 1546950546,
    "actual_end": 1546950555,
    "status": "cancelled",
    "status_updated_by": "60610",
}
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one thing costs."""

    what: str
    microseconds: float


def run() -> list[Cost]:
    """Measure everything."""
    event = _event()
    costs = [*_formats(event), *_filters(event), *_signatures(event)]
    return [Cost(what, _best(act)) for what, act in costs]


def _event() -> Event:
    payload = {"visit": VISIT, "status_code": "40", "amount": 1500, "tags": ["a", "b"]}
    payload["note"] = "x" * (500 - len(json.dumps(payload)) - 12)
    text = json.dumps(payload)
    return Event(EventId(UUID(int=1)), "acme", "visit.ended", text, 1546950556.0, 1546950556.0)


def _formats(event: Event) -> list[tuple[str, Callable[[], object]]]:
    found: list[tuple[str, Callable[[], object]]] = []
    for name in ("raw", "standard", "cloudevents", "decoda/1.0", "vsee/2.0", "vsee/1.0"):
        of = resolve(name)
        found.append((f"body: {name}", lambda of=of: of.body(event)))  # type: ignore[misc]
    for what, field in (
        ("a part of the payload", {"name": "f", "payload": "visit.id"}),
        ("a CEL field", {"name": "f", "cel": "string(payload.visit.start)"}),
    ):
        one = compile_format(check({"name": "x", "version": "1", "fields": [field]}, source="benchmark"))
        found.append((f"body: {what} alone", lambda one=one: one.body(event)))  # type: ignore[misc]
    computed, variables = expression("string(payload.visit.start)", field="f"), variables_of(event)
    found.append(("each further CEL field", lambda: computed.evaluate(variables)))
    return found


def _filters(event: Event) -> list[tuple[str, Callable[[], object]]]:
    texts = {
        "of the event alone": "event.type == 'visit.ended'",
        "of the payload": "payload.amount > 1000 && 'a' in payload.tags",
    }
    found: list[tuple[str, Callable[[], object]]] = [
        (f"filter: {what}, first of an event", lambda text=text: Judge(event).decide(text))  # type: ignore[misc]
        for what, text in texts.items()
    ]
    compiled, variables = condition(texts["of the payload"], field="f"), variables_of(event)
    return [*found, ("each further filter of the payload", lambda: compiled.evaluate(variables))]


def _signatures(event: Event) -> list[tuple[str, Callable[[], object]]]:
    found: list[tuple[str, Callable[[], object]]] = []
    for names in (
        ("standard",),
        ("standard", "decoda"),
        ("standard", "stripe"),
        ("standard", "healthie"),
        ("standard", "rfc9421"),
    ):
        made = Envelopes(_endpoint(names))
        found.append((f"envelope: raw, {' + '.join(names)}", lambda made=made: made.envelope(event, 1.0)))  # type: ignore[misc]
    return found


def _endpoint(names: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        id=EndpointId(UUID(int=2)),
        shard=Shard(0),
        tenant="acme",
        url="https://example.com/hook",
        state=EndpointState.ACTIVE,
        secrets=(Secret(SECRET, None),),
        payload_format="raw",
        signing_profiles=names,
    )


def _best(act: Callable[[], object]) -> float:
    """Return the least microseconds of a call."""
    act()
    calls = 1
    while (took := _round(act, calls)) < SECONDS:
        calls = max(calls * 2, int(calls * SECONDS / max(took, 1e-6)))
    return min(_round(act, calls) for _ in range(ROUNDS)) / calls * 1e6


def _round(act: Callable[[], object], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        act()
    return time.process_time() - started
