"""Events, for producers that have no SQL: send one or many, show one, explain what became of it."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from dispatcher import admin
from dispatcher.admin import EventRow, views
from dispatcher.api import models
from dispatcher.api.operations import Answer, Call, Operation, Reply
from dispatcher.api.raw import elements, members
from dispatcher.api.wording import for_http
from dispatcher.model import EventId

TAG: Final = "Events"


async def send(call: Call, body: models.NewEvent) -> Reply:
    """Send one."""
    sent = await call.admin.send_event(_event(call.tenant, body, call.text))
    return Reply(_sent(sent), status=200 if sent is None else 201)


async def send_batch(call: Call, body: models.EventBatch) -> Reply:
    """Send many."""
    texts = elements(members(call.text)["events"])
    events = [_event(call.tenant, event, text) for event, text in zip(body.events, texts, strict=True)]
    sent = await call.admin.send_events(events, field="events")
    new = any(event_id is not None for event_id in sent)
    return Reply({"events": [_sent(event_id) for event_id in sent]}, status=201 if new else 200)


def _event(tenant: str, given: models.NewEvent, text: str) -> admin.NewEvent:
    given_fields = {name: value for name, value in given if name != "payload"}
    return admin.NewEvent(tenant=tenant, payload=members(text)["payload"], **given_fields)


def _sent(event_id: EventId | None) -> dict[str, Any]:
    return {"id": None if event_id is None else str(event_id), "isDuplicate": event_id is None}


async def get(call: Call) -> Reply:
    """Show one."""
    return Reply(event_json(await call.admin.event(EventId(call.uuid()), tenant=call.tenant)))


async def explain(call: Call) -> Reply:
    """Explain one."""
    explanation = await call.admin.explain(EventId(call.uuid()), tenant=call.tenant)
    shown = views.explanation_json(explanation)
    findings = [finding | {"why": for_http(finding["why"])} for finding in shown["endpoints"]]
    event = event_json(explanation.event)
    return Reply(shown | {"endpoints": findings, "event": event, "summary": for_http(shown["summary"])})


def event_json(event: EventRow) -> dict[str, Any]:
    """Show an event, with its payload as it was inserted."""
    return views.event_json(event) | {"payload": orjson.Fragment(event.payload)}


OPERATIONS: Final[Sequence[Operation]] = (
    Operation(
        name="sendEvent",
        method="POST",
        path="/v1/events",
        handler=send,
        summary="Send an event",
        description="It is committed when the answer comes. The payload goes out byte for byte as it stands in the body.",
        tag=TAG,
        body=models.NewEvent,
        creates=True,
        answers={
            201: Answer("The event is committed.", models.SentEvent),
            200: Answer("It was skipped: its idempotency key was used.", models.SentEvent),
        },
        example={"type": "PATIENT_CREATED", "payload": {"resource_id": "67890", "changed_fields": []}},
    ),
    Operation(
        name="sendEvents",
        method="POST",
        path="/v1/events/batch",
        handler=send_batch,
        summary="Send many events",
        description="At most 1000, in one transaction: all are committed when the answer comes, or none is.",
        tag=TAG,
        body=models.EventBatch,
        creates=True,
        answers={
            201: Answer(
                "The events are committed; those whose idempotency key was used are skipped.", models.SentEvents
            ),
            200: Answer("All were skipped: their idempotency keys were used.", models.SentEvents),
        },
        example={"events": [{"type": "PATIENT_CREATED", "payload": {"resource_id": "67890"}}]},
    ),
    Operation(
        name="getEvent",
        method="GET",
        path="/v1/events/{id}",
        handler=get,
        summary="Show an event",
        tag=TAG,
        thing="event",
        answers={200: Answer("The event.", models.Event)},
    ),
    Operation(
        name="explainEvent",
        method="GET",
        path="/v1/events/{id}/explain",
        handler=explain,
        summary="Explain what became of an event",
        description="Says for each webhook what happened and why, also where nothing did.",
        tag=TAG,
        thing="event",
        answers={200: Answer("What became of it.", models.Explanation)},
    ),
)
