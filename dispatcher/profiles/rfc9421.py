"""HTTP Message Signatures (RFC 9421) with `hmac-sha256`, over a Content-Digest (RFC 9530), as any library verifies them.

Covers the method, the target URI, the content's type and digest, and the `webhook-id` where there is one. The key is the
secret decoded, or its own characters where it is none of Standard Webhooks; `keyid` is the webhook's id.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from dispatcher.model import Secret
from dispatcher.profiles.message import Keyed, Message
from dispatcher.signature import signing_key

HEADERS: Final = ("Content-Digest", "Signature-Input", "Signature")
_TAG: Final = "webhook"


class Rfc9421:
    """The profile, ready for one endpoint."""

    def __init__(self, secrets: Sequence[Secret], *, keyid: str, with_id: bool) -> None:
        self._keyed = Keyed([(signing_key(secret.value), secret.expires_at) for secret in secrets])
        self._keyid = keyid
        self._with_id = with_id

    def headers(self, message: Message, *, now: float) -> Mapping[str, str]:
        """Return the three headers; `created` is the attempt's timestamp."""
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(message.body).digest()).decode()}:"
        covered = {
            "@method": "POST",
            "@target-uri": message.target.uri,
            "content-type": message.content_type,
            "content-digest": digest,
        }
        if self._with_id:
            covered["webhook-id"] = message.id
        parameters = (
            f"({' '.join(f'{chr(34)}{name}{chr(34)}' for name in covered)});created={message.timestamp}"
            f';keyid="{self._keyid}";alg="hmac-sha256";tag="{_TAG}"'
        )
        lines = [f'"{name}": {value}' for name, value in covered.items()]
        base = "\n".join([*lines, f'"@signature-params": {parameters}'])
        signature = base64.b64encode(self._keyed.one(base.encode(), now=now)).decode()
        return dict(zip(HEADERS, (digest, f"sig1={parameters}", f"sig1=:{signature}:"), strict=True))
