"""The OpenAPI document says what operational events hold: the models fit what is really written."""

import uuid

import pytest

from dispatcher import operational
from dispatcher.api.openapi import OPERATIONAL, document
from dispatcher.model import DeliveryId, EndpointId, EventId
from dispatcher.operational import OperationalEvent, OperationalType

ENDPOINT = EndpointId(uuid.UUID(int=1))

EVENTS = [
    operational.failing(ENDPOINT, since=1.5, disable_at=2.5, status=500, error=None),
    operational.disabled(ENDPOINT, reason="it kept failing", status=None, error="timeout: no answer"),
    operational.recovered(ENDPOINT),
    operational.dead(
        ENDPOINT,
        delivery_id=DeliveryId(1),
        event_id=EventId(uuid.UUID(int=2)),
        event_type="appointment.created",
        reason="exhausted",
        attempts=3,
        manual=False,
        status=503,
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.type))
def test_the_documented_shape_is_the_written_one(event: OperationalEvent) -> None:
    """No field more, none less, and each of its type."""
    model = OPERATIONAL[event.type]

    fields = {info.alias for info in model.model_fields.values()}

    model.model_validate(dict(event.data))
    assert set(event.data) == fields


def test_every_type_is_in_the_document() -> None:
    """Beside the event that stands for all others."""
    assert set(document([])["webhooks"]) == {"event", *OperationalType}


def test_texts_that_cannot_be_stored_are_mended() -> None:
    """A NUL, and half a surrogate pair, which an answer of a subscriber may have led to."""
    event = operational.disabled(ENDPOINT, reason="x", error="a\0b\ud800c")

    assert event.data["lastError"] == "a�b?c"
