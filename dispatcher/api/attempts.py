"""Delivery attempts: a webhook's log, one of its entries whole, and sending by hand."""

import re
from typing import Any, Final

import orjson

from dispatcher.admin import views
from dispatcher.admin.inputs import LogFilter
from dispatcher.admin.results import LoggedDelivery
from dispatcher.api import models
from dispatcher.api.operations import Answer, Call, Operation, Reply
from dispatcher.errors import NotFound
from dispatcher.model import DeliveryId, DeliveryState, EndpointId

TAG: Final = "Delivery attempts"

_ATTEMPT = re.compile(r"(0|[1-9][0-9]{0,18})(?:-([1-9][0-9]{0,4}))?")
"""A delivery's id, and the number of one of its attempts."""


async def list_some(call: Call, query: models.AttemptsQuery) -> Reply:
    """Show a page of a webhook's log."""
    chosen = LogFilter(
        event_type=query.event_type,
        is_delivered=query.is_delivered,
        created_after=query.created_after,
        created_before=query.created_before,
        delivered_after=query.delivery_date_after,
        delivered_before=query.delivery_date_before,
        last_status=query.last_delivery_attempt_status,
        last_error=query.last_delivery_attempt_error,
        by_delivery=query.sort_by == "delivery_date",
        ascending=query.sort_direction == "asc",
    )
    page = await call.admin.log(
        EndpointId(call.uuid()),
        chosen,
        tenant=call.tenant,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
    )
    shown = [logged_json(logged) for logged in page.deliveries]
    return Reply({"deliveryAttempts": shown, "nextCursor": page.next_cursor})


async def get(call: Call) -> Reply:
    """Show one, whole."""
    delivery_id, number = _attempt_id(call)
    logged = await call.admin.logged(delivery_id, tenant=call.tenant)
    if number is not None and all(attempt.number != number for attempt in logged.attempts):
        raise NotFound("There is no such delivery attempt.")
    return Reply(details_json(logged, number=number))


async def send(call: Call, query: models.SendQuery) -> Reply:
    """Send one again."""
    delivery_id, _ = _attempt_id(call)
    row = await call.admin.retry_delivery(delivery_id, notify=query.notify_failure, tenant=call.tenant)
    return Reply(details_json(await call.admin.logged(row.id, tenant=call.tenant)), status=202)


def _attempt_id(call: Call) -> tuple[DeliveryId, int | None]:
    match = _ATTEMPT.fullmatch(call.path["id"])
    if match is None:
        raise NotFound("There is no such delivery attempt.")
    return DeliveryId(int(match[1])), None if match[2] is None else int(match[2])


def logged_json(logged: LoggedDelivery) -> dict[str, Any]:
    """Show an entry of the log by the names that it is known by; the payload as it was inserted."""
    entry = logged.entry
    delivered = entry.state is DeliveryState.DELIVERED
    return {
        "alertId": str(entry.event_id),
        "attemptCount": entry.attempts,
        "createdDate": views.iso(entry.created_at),
        "data": None if logged.payload is None else orjson.Fragment(logged.payload),
        "deliveredDate": views.iso(entry.finished_at) if delivered else None,
        "dueDate": views.iso(entry.due_at),
        "eventId": str(entry.event_id),
        "id": str(entry.id),
        "isDelivered": delivered,
        "isManual": entry.manual,
        "lastDeliveryAttemptDate": views.iso(logged.last_attempt_at),
        "lastDeliveryAttemptError": logged.last_error,
        "lastDeliveryAttemptStatus": logged.last_status,
        "reason": entry.reason,
        "state": str(entry.state),
        "type": entry.event_type,
        "webhookId": str(entry.endpoint_id),
    }


def details_json(logged: LoggedDelivery, *, number: int | None = None) -> dict[str, Any]:
    """Show an entry whole: with the request of that number, or the last one, and all requests."""
    attempts = [
        views.attempt_json(attempt) | {"id": f"{logged.entry.id}-{attempt.number}"} for attempt in logged.attempts
    ]
    chosen = [attempt for attempt in attempts if number in (None, attempt["number"])]
    return {**logged_json(logged), "attempt": chosen[-1] if chosen else None, "attempts": attempts}


OPERATIONS: Final = (
    Operation(
        name="listDeliveryAttempts",
        method="GET",
        path="/v1/webhook/{id}/delivery-attempts/list",
        handler=list_some,
        summary="List a webhook's delivery attempts",
        description=(
            "One entry for each event on its way to this webhook, with what its last attempt came to. Pages by `limit` and "
            "`offset`, or, however long the log is, by `cursor`."
        ),
        tag=TAG,
        thing="webhook",
        query=models.AttemptsQuery,
        answers={200: Answer("A page of them.", models.DeliveryAttempts)},
    ),
    Operation(
        name="getDeliveryAttempt",
        method="GET",
        path="/v1/webhook/events/{id}",
        handler=get,
        summary="Show a delivery attempt",
        tag=TAG,
        thing="delivery attempt",
        answers={200: Answer("The delivery attempt, whole.", models.DeliveryAttemptDetails)},
    ),
    Operation(
        name="sendDeliveryAttempt",
        method="POST",
        path="/v1/webhook/events/{id}/send",
        handler=send,
        summary="Send a delivery attempt by hand",
        description=(
            "Sends the event to the same webhook once more, with the same `webhook-id`: a pending one now instead of "
            "later, any other one as a new delivery attempt with a single request. The answer shows it; look at its id "
            "for how it went."
        ),
        tag=TAG,
        thing="delivery attempt",
        query=models.SendQuery,
        creates=True,
        conflicts=True,
        answers={202: Answer("It is about to be sent.", models.DeliveryAttemptDetails)},
    ),
)
