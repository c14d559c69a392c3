"""Make the body of a request anew: it is not stored with each attempt, because it follows from the event and the format.

Its hash is stored, so that a body is shown only if it is the very one that was sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from dispatcher.model import Event
from dispatcher.payload import FormatFailed, PayloadFormat, built_in_names, resolve
from dispatcher.store import definitions
from dispatcher.store.history import AttemptRow, EventRow


async def with_bodies(
    connection: Any, attempts: Sequence[AttemptRow], event: EventRow | None
) -> tuple[AttemptRow, ...]:
    """Return attempts with the bodies that were sent, as far as the event is kept and a format still writes them so."""
    wanted = {attempt.request_sha256 for attempt in attempts if attempt.request_sha256 is not None}
    if event is None or not wanted:
        return tuple(attempts)
    found = _search(event, wanted, map(resolve, built_in_names()))
    if len(found) < len(wanted):
        stored = await definitions.formats(connection)
        found |= _search(event, wanted, (resolve(one.full_name, one.definition) for one in stored))
    return tuple(
        attempt if attempt.request_sha256 is None else replace(attempt, request_body=found.get(attempt.request_sha256))
        for attempt in attempts
    )


def _search(row: EventRow, wanted: set[bytes], formats: Iterable[PayloadFormat]) -> dict[bytes, bytes]:
    """Return the bodies of these hashes that formats make of an event: its endpoint may have had another format then."""
    event = Event(
        id=row.id,
        tenant=row.tenant,
        event_type=row.event_type,
        payload=row.payload,
        occurred_at=row.occurred_at.timestamp(),
        inserted_at=row.inserted_at.timestamp(),
    )
    found: dict[bytes, bytes] = {}
    for payload_format in formats:
        try:
            body = payload_format.body(event)
        except FormatFailed:
            continue
        found[sha256(body).digest()] = body
        if wanted <= found.keys():
            break
    return {digest: found[digest] for digest in wanted & found.keys()}
