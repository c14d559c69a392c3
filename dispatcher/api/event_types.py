"""Event types: what the catalogue knows of them."""

from typing import Final

from dispatcher.admin import views
from dispatcher.api import models
from dispatcher.api.operations import Answer, Call, Operation, Reply

TAG: Final = "Event types"


async def list_all(call: Call) -> Reply:
    """List them; without a catalogue there are none."""
    catalog = await call.admin.catalog()
    return Reply({"eventTypes": [views.event_type_json(one) for one in catalog.event_types]})


OPERATIONS: Final = (
    Operation(
        name="listEventTypes",
        method="GET",
        path="/v1/event-types",
        handler=list_all,
        summary="List event types",
        description="Those of the catalogue. Where none is loaded the list is empty, and any event type may be used.",
        tag=TAG,
        answers={200: Answer("The catalogue's event types.", models.EventTypes)},
    ),
)
