"""What this worker knows of endpoints: settings, prepared signer, schedule and health. Pure; `feed` loads it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dispatcher.envelope import Envelope, Envelopes
from dispatcher.errors import InvalidInput
from dispatcher.model import Delivery, Endpoint, EndpointId, EndpointState, Event, Shard
from dispatcher.retry import HealthChange


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for endpoints that set nothing of their own; durations in seconds."""

    schedule: tuple[float, ...]
    timeout: float
    warn_after: float
    disable_after: float


class Subscriber:
    """One endpoint, ready to be sent to. Health changes here first and is written down with the attempt that changed it."""

    __slots__ = ("_envelopes", "disable_after", "endpoint", "fault", "health", "schedule", "timeout", "warn_after")

    def __init__(self, endpoint: Endpoint, defaults: Defaults) -> None:
        self.endpoint = endpoint
        self.health = endpoint.health
        self.schedule = defaults.schedule if endpoint.retry_schedule is None else endpoint.retry_schedule
        self.timeout = endpoint.timeout or defaults.timeout
        self.warn_after = defaults.warn_after if endpoint.warn_after is None else endpoint.warn_after
        self.disable_after = defaults.disable_after if endpoint.disable_after is None else endpoint.disable_after
        self._envelopes: Envelopes | None = None
        self.fault: str | None = None
        """Why nothing can be sent to it, for people: its row holds what was never accepted at the door."""
        try:
            self._envelopes = Envelopes(endpoint)
        except InvalidInput as error:
            self.fault = str(error)

    def envelope(self, event: Event, now: float) -> Envelope:
        """Build what is sent at `now` (unix seconds); the signatures cover these very bytes.

        Raises FormatFailed for an event that the endpoint's payload format cannot write.
        """
        if self._envelopes is None:  # callers look at `fault` first
            raise InvalidInput(self.fault or "the endpoint cannot be signed for")
        return self._envelopes.envelope(event, now)

    def apply(self, change: HealthChange | None, now: float) -> None:
        """Take over a change of health that an attempt made."""
        match change:
            case HealthChange.STARTED_FAILING:
                self.health = replace(self.health, failing_since=now)
            case HealthChange.WARN:
                self.health = replace(self.health, warned_at=now)
            case HealthChange.RECOVERED | HealthChange.CLEARED:
                self.health = replace(self.health, failing_since=None, warned_at=None)
            case HealthChange.DISABLE:
                self.disable()
            case None:
                pass

    def disable(self) -> None:
        """Stop sending; the row in the database follows with the next record."""
        self.endpoint = replace(self.endpoint, state=EndpointState.DISABLED)

    def signed_with(self, now: float) -> str:
        """Tell the fingerprints of the keys that sign at `now`, the newest first."""
        secrets = self.endpoint.secrets
        if len(secrets) == 1:
            return secrets[0].fingerprint
        return " ".join(
            secret.fingerprint for secret in secrets if secret.expires_at is None or now < secret.expires_at
        )


class Subscribers:
    """The endpoints whose lanes this worker runs."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._known: dict[EndpointId, Subscriber] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._known.values())

    def __contains__(self, endpoint_id: EndpointId) -> bool:
        return endpoint_id in self._known

    def get(self, endpoint_id: EndpointId) -> Subscriber | None:
        """Return the subscriber, if its endpoint is loaded."""
        return self._known.get(endpoint_id)

    def of(self, delivery: Delivery) -> Subscriber:
        """Return the subscriber of a delivery that a lane has started: its endpoint is loaded."""
        return self._known[delivery.endpoint_id]

    def put(self, endpoint: Endpoint) -> Subscriber:
        """Take over an endpoint as the database has it.

        Health that this worker changed and has not written down yet is newer than what was read; so the health of a
        known endpoint stays, unless a person changed its state.
        """
        known = self._known.get(endpoint.id)
        subscriber = Subscriber(endpoint, self._defaults)
        if known is not None and known.endpoint.state is endpoint.state:
            subscriber.health = known.health
        self._known[endpoint.id] = subscriber
        return subscriber

    def forget(self, shards: Iterable[Shard]) -> None:
        """Drop the endpoints of shards that are no longer owned."""
        gone = set(shards)
        self._known = {id_: known for id_, known in self._known.items() if known.endpoint.shard not in gone}

    def drop(self, ids: Iterable[EndpointId]) -> None:
        """Drop endpoints whose lanes are gone."""
        for endpoint_id in ids:
            self._known.pop(endpoint_id, None)
