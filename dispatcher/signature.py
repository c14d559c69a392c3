"""Secrets, and the Standard Webhooks signature that proves an envelope; knows nothing of HTTP or of storage.

The signed content is `{id}.{timestamp}.{body}` over the exact bytes that are sent, the key is the *decoded* secret
(Standard Webhooks 1.0.0, "Signature scheme").
"""

import base64
import binascii
import hmac
import re
import secrets as entropy
from collections.abc import Callable, Iterable, Mapping, Sequence

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret

PREFIX = "whsec_"
KEY_BYTES = 32
"""As long as SHA-256's output: a longer key adds nothing, and 24 to 64 are allowed."""
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
TOLERANCE = 300.0
"""Seconds between the clocks of sender and receiver, in both directions; what the reference libraries use."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"


class SignatureMismatch(Exception):
    """What arrived was not signed with one of the keys, or not recently; `str()` says which."""


def new_secret(random: Callable[[int], bytes] = entropy.token_bytes) -> str:
    """Return a fresh secret as it is shown to the subscriber."""
    return PREFIX + base64.b64encode(random(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Decode a secret to its HMAC key.

    Padding may be missing, as it often is after copying by hand. Raises `InvalidInput`, which never repeats the secret.
    """
    if not secret.startswith(PREFIX):
        raise _unusable(f"does not start with `{PREFIX}`")
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _unusable("is not base64 (letters, digits, `+` and `/`)") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise _unusable(f"decodes to {len(key)} bytes")
    return key


def _unusable(why: str) -> InvalidInput:
    message = (
        f"The secret {why}. Give `{PREFIX}` followed by the base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} random bytes, "
        "or leave it out and one is made."
    )
    return InvalidInput(message, field="secret")


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `v1` signature of one message, `v1,<base64>`.

    `message_id` must hold no full stop, which delimits the signed content; event ids never do.
    """
    return _v1(hmac.new(key, digestmod="sha256"), b"%b.%d.%b" % (message_id.encode(), timestamp, body))


def _v1(keyed: hmac.HMAC, content: bytes) -> str:
    keyed.update(content)
    return "v1," + binascii.b2a_base64(keyed.digest(), newline=False).decode("ascii")


class Signer:
    """Sign for one endpoint, with every secret that is in force.

    Secrets are decoded and keyed once, so that a signature costs a copy of the keyed state. The newest secret's
    signature comes first and the old one's last: one library reads only the last, and its owner still deploys the old.
    """

    def __init__(self, secrets: Sequence[Secret]) -> None:
        """Take `secrets` newest first; one at least must never expire. Raises `InvalidInput` for an undecodable one."""
        if all(secret.expires_at is not None for secret in secrets):
            raise ValueError("An endpoint always has a secret that does not expire.")
        self._keyed = tuple((hmac.new(key_of(s.value), digestmod="sha256"), s.expires_at) for s in secrets)

    def headers(self, message_id: str, timestamp: int, body: bytes, *, now: float) -> dict[str, str]:
        """Return the three headers of one attempt; `timestamp` is unix seconds, `now` decides which secrets count."""
        content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
        signatures = [
            _v1(keyed.copy(), content) for keyed, expires_at in self._keyed if expires_at is None or now < expires_at
        ]
        return {
            ID_HEADER: message_id,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: " ".join(signatures),
        }


def verify(
    secrets: Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Do a receiver's part: raise `SignatureMismatch` unless one of `secrets` signed this message recently.

    Header names count in any case. Signatures of versions other than `v1` are passed over, as the specification asks.
    """
    found = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not found.get(name)]
    if missing:
        raise SignatureMismatch(f"The header {', '.join(missing)} is missing.")
    timestamp = _timestamp(found[TIMESTAMP_HEADER])
    if abs(now - timestamp) > tolerance:
        direction = "ago" if timestamp < now else "ahead"
        raise SignatureMismatch(
            f"It was signed {abs(now - timestamp):.0f} s {direction}; at most {tolerance:.0f} s are accepted. "
            "Is a clock wrong, or is this a replay?"
        )
    given = [token.encode() for token in found[SIGNATURE_HEADER].split() if token.startswith("v1,")]
    if not given:
        raise SignatureMismatch(f"The header {SIGNATURE_HEADER} holds no v1 signature.")
    for secret in secrets:
        expected = sign(key_of(secret), found[ID_HEADER], timestamp, body).encode()
        if any(hmac.compare_digest(expected, token) for token in given):
            return
    raise SignatureMismatch("No signature matches: the secret is another one, or the body was changed on its way.")


def _timestamp(text: str) -> int:
    # int() would also take "1_0", " 10 ", digits of other scripts, and thousands of them.
    if re.fullmatch("[0-9]{1,12}", text) is None:
        raise SignatureMismatch(f"The header {TIMESTAMP_HEADER} is not a number of unix seconds.")
    return int(text)
