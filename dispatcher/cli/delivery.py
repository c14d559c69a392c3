"""`dispatcher delivery`: one event for one endpoint, and its attempts."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from dispatcher.cli.run import Call, command, group
from dispatcher.model import DeliveryId, DeliveryState, EndpointId

if TYPE_CHECKING:
    from dispatcher.admin import Admin, DeliveryRow

app = group("List, show, retry and cancel deliveries.")

PAGE = 500
"""Rows fetched at once while a longer list is printed."""

ATTEMPT_COLUMNS = {
    "number": "ATTEMPT",
    "startedDate": "STARTED",
    "outcome": "OUTCOME",
    "status": "STATUS",
    "milliseconds": "MS",
    "verdict": "VERDICT",
    "nextAttemptDate": "NEXT ATTEMPT",
    "address": "ADDRESS",
    "error": "ERROR",
}

PHASES = {"lookup": "look-up", "connect": "connect", "tls": "TLS", "firstByte": "first byte", "total": "in all"}

Id = Annotated[int, typer.Argument(metavar="ID", help="The delivery's id.")]


@command(app, "list")
def list_some(
    call: Call,
    *,
    webhook: Annotated[UUID | None, typer.Option("--webhook", metavar="ID", help="Only this webhook's.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")] = None,
    state: Annotated[DeliveryState | None, typer.Option("--state", help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 50,
) -> None:
    """List deliveries: pending ones, the soonest due first; then finished ones, the latest first.

    Examples:
      dispatcher delivery list --state dead
      dispatcher delivery list --webhook 0199… --json
    """
    from dispatcher.admin import views

    endpoint = None if webhook is None else EndpointId(webhook)

    async def read(admin: "Admin") -> "list[DeliveryRow]":
        found: list[DeliveryRow] = []
        cursor = None
        while len(found) < limit:
            page = await admin.deliveries(
                webhook=endpoint, tenant=tenant, state=state, limit=min(PAGE, limit - len(found)), cursor=cursor
            )
            found += page.deliveries
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    documents = [views.delivery_json(delivery) for delivery in call.ask(read)]
    call.show_all(
        documents if call.as_json else [document | {"lastError": trouble(document)} for document in documents],
        {
            "id": "ID",
            "state": "STATE",
            "tenant": "TENANT",
            "eventType": "EVENT TYPE",
            "eventId": "EVENT ID",
            "webhookId": "WEBHOOK ID",
            "attemptCount": "ATTEMPTS",
            "dueDate": "DUE",
            "lastError": "LAST ERROR",
        },
        empty="There are no such deliveries.",
    )


def trouble(delivery: Mapping[str, Any]) -> str | None:
    """Say in a few words what a delivery's last attempt, or its end, came to; None if nothing is wrong."""
    status = delivery["lastStatus"]
    if delivery["lastError"] is not None:
        return str(delivery["lastError"])
    if status is None or delivery["state"] == DeliveryState.DELIVERED:
        return None if delivery["reason"] is None else str(delivery["reason"])
    return f"HTTP {status} {HTTPStatus(status).phrase if status in set(HTTPStatus) else ''}".rstrip()


@command(app, "show")
def show(call: Call, delivery_id: Id) -> None:
    """Show a delivery with all its attempts."""
    from dispatcher.admin import views

    document = views.delivery_details_json(call.ask(lambda admin: admin.delivery(DeliveryId(delivery_id))))
    if call.as_json:
        call.show(document)
        return
    attempts = document.pop("attempts")
    call.show(document)
    call.say("")
    call.show_all(attempts, ATTEMPT_COLUMNS, empty="No attempt was made so far.")
    if attempts:
        _tell(call, attempts[-1])


def _tell(call: Call, attempt: Mapping[str, Any]) -> None:
    """Show what one attempt sent and what came back."""
    if attempt["requestLine"] is not None:
        call.say(
            f"\nrequest of attempt {attempt['number']}, signed with {', '.join(attempt['signedWith'])}", style="bold"
        )
        call.say(attempt["requestLine"])
        for name, value in attempt["requestHeaders"]:
            call.say(f"{name}: {value}")
        if attempt["requestBody"] is not None:
            call.say(f"\n{attempt['requestBody']}")
    if attempt["timings"] is not None:
        reused = attempt["timings"]["isReused"]
        phases = [
            f"{name} {attempt['timings'][field]:.1f} ms"
            for field, name in PHASES.items()
            if attempt["timings"][field] is not None
        ]
        over = "over an open connection: " if reused else ""
        call.say(f"\ntimes of attempt {attempt['number']}", style="bold")
        call.say(over + ", ".join(phases[-2:] if reused else phases))
    if attempt["responseBody"]:
        call.say(f"\nanswer to attempt {attempt['number']}", style="bold")
        call.say(attempt["responseBody"])


@command(app, "retry")
def retry(call: Call, delivery_id: Id) -> None:
    """Send it again at once: a pending delivery is due now, a finished one is made anew under a new id."""
    from dispatcher.admin import views

    call.show(views.delivery_json(call.ask(lambda admin: admin.retry_delivery(DeliveryId(delivery_id)))))


@command(app, "cancel")
def cancel(call: Call, delivery_id: Id) -> None:
    """Give up a pending delivery; nobody is notified."""
    from dispatcher.admin import views

    call.show(views.delivery_json(call.ask(lambda admin: admin.cancel_delivery(DeliveryId(delivery_id)))))
