"""What profiles sign: one request as it is about to be sent, and the keys it is signed with."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from yarl import URL


@dataclass(frozen=True, slots=True)
class Target:
    """Where an endpoint's requests go, as it stands in the request."""

    uri: str
    path: str
    query: str
    """Without the question mark; empty if there is none."""

    @classmethod
    def of(cls, url: str) -> "Target":
        """Read a URL that was checked at the door."""
        parsed = URL(url, encoded=True)
        path = parsed.raw_path or "/"
        query = f"?{parsed.raw_query_string}" if parsed.raw_query_string else ""
        authority = parsed.host_port_subcomponent
        return cls(f"{parsed.scheme}://{authority}{path}{query}", path, parsed.raw_query_string)


@dataclass(frozen=True, slots=True)
class Message:
    """One request."""

    id: str
    """The event's: the `webhook-id`."""
    timestamp: int
    """Unix seconds of this attempt."""
    body: bytes
    content_type: str
    event_type: str
    tenant: str
    occurred_at: float
    """The event's, unix seconds."""
    target: Target


class Profile(Protocol):
    """Signs the requests to one endpoint."""

    def headers(self, message: Message, *, now: float) -> Mapping[str, str]:
        """Return the headers to be added; `now` (unix seconds) decides which secrets are in force."""
        ...


class Keyed:
    """The secrets of an endpoint, each keyed once, so that a signature costs a copy of the keyed state."""

    def __init__(self, keys: Sequence[tuple[bytes, float | None]], *, algorithm: str = "sha256") -> None:
        """Take keys newest first, with the instants at which they end."""
        self._keyed = tuple((hmac.new(key, digestmod=algorithm), ends_at) for key, ends_at in keys)

    def all(self, content: bytes, *, now: float) -> list[bytes]:
        """Sign with every key in force, the newest first."""
        return [_digest(keyed, content) for keyed, ends_at in self._keyed if ends_at is None or now < ends_at]

    def one(self, content: bytes, *, now: float) -> bytes:
        """Sign with the oldest key in force.

        Where a scheme has room for one signature, the old key goes on until its overlap ends, which is the time that the
        receiver has to deploy the new one; the newest from the start would fail at every receiver that is not done yet.
        """
        for keyed, ends_at in reversed(self._keyed):
            if ends_at is None or now < ends_at:
                return _digest(keyed, content)
        raise ValueError("An endpoint always has a secret that does not expire.")


def _digest(keyed: hmac.HMAC, content: bytes) -> bytes:
    copy = keyed.copy()
    copy.update(content)
    return copy.digest()
