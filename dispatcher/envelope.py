"""Envelopes: the exact bytes and headers that are sent to one endpoint, by its payload format and its secrets. Pure."""

from dispatcher.errors import InvalidInput
from dispatcher.model import Endpoint, Event
from dispatcher.payload import resolve
from dispatcher.profiles import known
from dispatcher.profiles.message import Message, Target
from dispatcher.signature import PRIVATE_PREFIX, Signer
from dispatcher.swift import swift


@swift
class Envelope:
    """What is sent."""

    headers: dict[str, str]
    body: bytes


class Envelopes:
    """Makes the envelopes of one endpoint; all that can be made ready beforehand is."""

    __slots__ = ("_endpoint", "_format", "_profiles", "_signer", "_target")

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises InvalidInput for settings that were never accepted at the door: an unknown format, no secret."""
        shared = [secret for secret in endpoint.secrets if not secret.value.startswith(PRIVATE_PREFIX)]
        if not shared:
            raise InvalidInput("The endpoint has no secret; `dispatcher webhook rotate-secret` makes one.")
        names = endpoint.signing_profiles
        self._endpoint = endpoint
        self._format = resolve(endpoint.payload_format, endpoint.format_definition)
        self._signer: Signer | None = None
        if known.WITHOUT_STANDARD not in names:
            self._signer = Signer(endpoint.secrets if known.V1A in names else shared)
        self._profiles = known.resolve(
            names,
            shared,
            keyid=str(endpoint.id),
            definitions=endpoint.profile_definitions,
            own=endpoint.headers,
        )
        self._target = Target.of(endpoint.url) if self._profiles else None

    def envelope(self, event: Event, now: float) -> Envelope:
        """Build what is sent at `now` (unix seconds); the signatures cover these very bytes.

        Raises FormatFailed for an event that the endpoint's payload format cannot write.
        """
        body = self._format.body(event)
        return Envelope(self.headers(event, body, now=now), body)

    def headers(self, event: Event, body: bytes, *, now: float) -> dict[str, str]:
        """Return the headers of a request with this body, which need not be the format's."""
        headers = {"Content-Type": self._format.content_type, **self._endpoint.headers}
        message_id, timestamp = str(event.id), int(now)
        if self._signer is not None:
            headers.update(self._signer.headers(message_id, timestamp, body, now=now))
        if self._target is not None:
            message = Message(
                id=message_id,
                timestamp=timestamp,
                body=body,
                content_type=self._format.content_type,
                event_type=event.event_type,
                tenant=event.tenant,
                occurred_at=event.occurred_at,
                target=self._target,
            )
            for profile in self._profiles:
                headers.update(profile.headers(message, now=now))
        return headers
