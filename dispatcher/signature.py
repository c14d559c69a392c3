"""Secrets, and the Standard Webhooks signature that proves an envelope; knows nothing of HTTP or of storage.

The signed content is `{id}.{timestamp}.{body}` over the exact bytes that are sent, the key is the *decoded* secret
(Standard Webhooks 1.0.0, "Signature scheme"). A secret that came from another system, and is no `whsec_` and base64, is
its own key: whoever verifies with a Standard Webhooks library gives it `whsec_` and the base64 of that secret.
"""

import base64
import binascii
import hmac
import re
import secrets as entropy
from collections.abc import Callable, Iterable, Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret

PREFIX = "whsec_"
KEY_BYTES = 32
"""As long as SHA-256's output: a longer key adds nothing, and 24 to 64 are allowed."""
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
MIN_TEXT = 8
"""Characters of a secret from another system: those that let a customer choose accept such short ones."""
MAX_TEXT = 256

PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
SEED_BYTES = 32
"""Of an ed25519 key (RFC 8032)."""

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


def is_standard(secret: str) -> bool:
    """Whether a secret is one of Standard Webhooks."""
    try:
        key_of(secret)
    except InvalidInput:
        return False
    return True


def signing_key(secret: str) -> bytes:
    """Return the HMAC key of any secret: decoded where it is one of Standard Webhooks, else its own characters."""
    return key_of(secret) if is_standard(secret) else secret.encode()


def check_secret(secret: str) -> str:
    """Check a secret that somebody brings along; raises InvalidInput, which never repeats it."""
    if is_standard(secret):
        return secret
    if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", secret) or not MIN_TEXT <= len(secret) <= MAX_TEXT:
        message = (
            f"The secret is neither `{PREFIX}` and base64, nor {MIN_TEXT} to {MAX_TEXT} printable ASCII characters with no "
            "blanks around them, as a secret of another system is."
        )
        raise InvalidInput(message, field="secret")
    if secret.startswith(PRIVATE_PREFIX):
        raise InvalidInput(f"The secret is a private key (`{PRIVATE_PREFIX}`), which is never shared.", field="secret")
    return secret


def new_private_key(random: Callable[[int], bytes] = entropy.token_bytes) -> str:
    """Return a fresh ed25519 key as it is stored: `whsk_` and the base64 of its seed."""
    return PRIVATE_PREFIX + base64.b64encode(random(SEED_BYTES)).decode()


def public_key_of(private_key: str) -> str:
    """Return what the subscriber verifies with: `whpk_` and base64."""
    public = _private(private_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PUBLIC_PREFIX + base64.b64encode(public).decode()


def _private(private_key: str) -> Ed25519PrivateKey:
    """Read `whsk_` and the base64 of a seed, or of a seed and its public key."""
    try:
        seed = base64.b64decode(private_key.removeprefix(PRIVATE_PREFIX), validate=True)[:SEED_BYTES]
        return Ed25519PrivateKey.from_private_bytes(seed)
    except ValueError:
        raise InvalidInput(f"The private key is not `{PRIVATE_PREFIX}` and base64 of a seed.", field="secret") from None


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


def _v1a(key: Ed25519PrivateKey, content: bytes) -> str:
    return "v1a," + base64.b64encode(key.sign(content)).decode()


class Signer:
    """Sign for one endpoint, with every secret that is in force.

    Secrets are decoded and keyed once, so that a signature costs a copy of the keyed state. The newest secret's
    signature comes first and the old one's last: one library reads only the last, and its owner still deploys the old.
    `v1a` signatures, of private keys among the secrets, come before all: no library that reads them cares where they are.
    """

    def __init__(self, secrets: Sequence[Secret]) -> None:
        """Take `secrets` newest first; one at least must never expire."""
        shared = [secret for secret in secrets if not secret.value.startswith(PRIVATE_PREFIX)]
        if all(secret.expires_at is not None for secret in shared):
            raise ValueError("An endpoint always has a secret that does not expire.")
        self._keyed = tuple((hmac.new(signing_key(s.value), digestmod="sha256"), s.expires_at) for s in shared)
        self._private = tuple((_private(s.value), s.expires_at) for s in secrets if s.value.startswith(PRIVATE_PREFIX))

    def headers(self, message_id: str, timestamp: int, body: bytes, *, now: float) -> dict[str, str]:
        """Return the three headers of one attempt; `timestamp` is unix seconds, `now` decides which secrets count."""
        content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
        signatures = [
            _v1(keyed.copy(), content) for keyed, expires_at in self._keyed if expires_at is None or now < expires_at
        ]
        if self._private:
            signatures[:0] = [
                _v1a(key, content) for key, expires_at in self._private if expires_at is None or now < expires_at
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
    timestamp = check_age(found[TIMESTAMP_HEADER], TIMESTAMP_HEADER, now=now, tolerance=tolerance)
    given = [token.encode() for token in found[SIGNATURE_HEADER].split() if token.startswith("v1,")]
    if not given:
        raise SignatureMismatch(f"The header {SIGNATURE_HEADER} holds no v1 signature.")
    for secret in secrets:
        expected = sign(signing_key(secret), found[ID_HEADER], timestamp, body).encode()
        if any(hmac.compare_digest(expected, token) for token in given):
            return
    raise SignatureMismatch("No signature matches: the secret is another one, or the body was changed on its way.")


def is_public_key(text: str) -> bool:
    """Whether a text is the public half of an ed25519 key, `whpk_` and base64."""
    try:
        raw = base64.b64decode(text.removeprefix(PUBLIC_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(PUBLIC_PREFIX) and len(raw) == SEED_BYTES  # both halves have as many


def verify_v1a(public_key: str, message_id: str, timestamp: int, body: bytes, signature: str) -> bool:
    """Whether a `v1a,<base64>` signature is that of a public key, `whpk_…`."""
    raw = base64.b64decode(public_key.removeprefix(PUBLIC_PREFIX), validate=True)
    content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature.removeprefix("v1a,")), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_age(text: str, header: str, *, now: float, tolerance: float = TOLERANCE) -> int:
    """Read the instant at which something was signed, unix seconds; raises SignatureMismatch if it was not recently."""
    # int() would also take "1_0", " 10 ", digits of other scripts, and thousands of them.
    if re.fullmatch("[0-9]{1,12}", text) is None:
        raise SignatureMismatch(f"The header {header} is not a number of unix seconds.")
    timestamp = int(text)
    if abs(now - timestamp) > tolerance:
        direction = "ago" if timestamp < now else "ahead"
        raise SignatureMismatch(
            f"It was signed {abs(now - timestamp):.0f} s {direction}; at most {tolerance:.0f} s are accepted. "
            "Is a clock wrong, or is this a replay?"
        )
    return timestamp
