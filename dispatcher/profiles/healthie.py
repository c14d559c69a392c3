"""Healthie's signature: like RFC 9421 in its headers' names, and unlike it in all else.

What is signed is `post <path> <query> <digest> application/json <length>`, in hex, keyed with the secret's own characters.
Its documentation leaves three things open, which is why the digest's form can be chosen per endpoint:

- `base64` (the default) is what integrators report of live traffic: the padded digest is sent, and the padded digest is
  signed. The documentation's own sample cuts the header at every `=`, and so rejects it.
- `base64-nopad` satisfies that sample, and rejects at who signs the whole, padded value.
- `hex` satisfies both, if they do not decode it.

The length is that of the body's bytes. The sample counts the UTF-16 units of the body parsed and written anew instead:
the same for compact ASCII, so such receivers need payloads that are inserted compact, and fail for any other letter.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from dispatcher.model import Secret
from dispatcher.profiles.message import Keyed, Message

FORMS: Final = ("base64", "base64-nopad", "hex")
HEADERS: Final = ("Content-Digest", "Signature-Input", "Signature")

_INPUT: Final = 'sig1=("@method" "@path" "@query" "content-digest" "content-type" "content-length")'
"""Its content is not documented, and no documented verifier reads it; this names what is signed."""


class Healthie:
    """The profile, ready for one endpoint."""

    def __init__(self, secrets: Sequence[Secret], *, form: str = "base64") -> None:
        self._keyed = Keyed([(secret.value.encode(), secret.expires_at) for secret in secrets])
        self._form = form

    def headers(self, message: Message, *, now: float) -> Mapping[str, str]:
        """Return the three headers."""
        digest = self._digest(message.body)
        target = message.target
        content = f"post {target.path} {target.query} {digest} application/json {len(message.body)}"
        signature = self._keyed.one(content.encode(), now=now).hex()
        return dict(zip(HEADERS, (f"SHA-256={digest}", _INPUT, f"sig1={signature}"), strict=True))

    def _digest(self, body: bytes) -> str:
        digest = hashlib.sha256(body)
        if self._form == "hex":
            return digest.hexdigest()
        text = base64.b64encode(digest.digest()).decode()
        return text.rstrip("=") if self._form == "base64-nopad" else text
