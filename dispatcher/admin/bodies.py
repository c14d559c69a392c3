"""Make the body of a request anew: it is not stored with each attempt, because it follows from the event and the format.

Its hash is stored, so that a body is shown only if it is the very one that was sent.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from dispatcher.formats.parts import FormatFailed
from dispatcher.model import Event
from dispatcher.payload import FORMATS
from dispatcher.store.history import AttemptRow, EventRow


def with_bodies(attempts: Sequence[AttemptRow], event: EventRow | None) -> tuple[AttemptRow, ...]:
    """Return attempts with the bodies that were sent, as far as the event is kept and a format still writes them so."""
    if event is None or all(attempt.request_sha256 is None for attempt in attempts):
        return tuple(attempts)
    bodies = _bodies(event)
    return tuple(
        attempt if attempt.request_sha256 is None else replace(attempt, request_body=bodies.get(attempt.request_sha256))
        for attempt in attempts
    )


def _bodies(row: EventRow) -> dict[bytes, bytes]:
    """Return what each format makes of an event, by SHA-256: the endpoint may have had another one then."""
    event = Event(
        id=row.id,
        tenant=row.tenant,
        event_type=row.event_type,
        payload=row.payload,
        occurred_at=row.occurred_at.timestamp(),
        inserted_at=row.inserted_at.timestamp(),
    )
    bodies: dict[bytes, bytes] = {}
    for known in FORMATS.values():
        with suppress(FormatFailed):
            body = known.body(event)
            bodies[sha256(body).digest()] = body
    return bodies
