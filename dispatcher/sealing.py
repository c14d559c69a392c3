"""Seals secrets for storage with a main key that can be changed; where they are stored is left to `store`.

AES-256-GCM (NIST SP 800-38D) with a fresh 96-bit nonce each time, written before the ciphertext. The id of the main key
is authenticated with it and stored beside it, so that several main keys can be known at once: the first one seals, all
of them open.
"""

import base64
import binascii
import re
import secrets as entropy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher.errors import ConfigError, MainKeyMissing

SETTING = "`[sealing] keys`"

KEY_BYTES = 32
"""AES-256's."""
NONCE_BYTES = 12
"""The length that GCM uses as it is; random ones are safe for 2^32 seals with one key (SP 800-38D, 8.3)."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOW = f"Write it as `id:base64 of {KEY_BYTES} random bytes`; `dispatcher secret new-key` prints one."


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is stored."""

    data: bytes
    key: str | None
    """Id of the main key; null: not sealed, `data` is the plain text in UTF-8."""


class Sealer:
    """Seal with the first of `keys`, open with any; each is `id:base64 of 32 bytes`. Without keys nothing is sealed.

    Raises `ConfigError`, which never repeats a key, for one that cannot be used.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        ciphers: dict[str, AESGCM] = {}
        for text in keys:
            try:
                key_id, key = parse_key(text)
            except ConfigError as error:
                raise ConfigError(f"{SETTING}: {error}") from None
            if key_id in ciphers:
                raise ConfigError(f"{SETTING}: two keys have the id `{key_id}`. Give every key its own id.")
            ciphers[key_id] = AESGCM(key)
        self._ciphers: Mapping[str, AESGCM] = ciphers
        self._current = next(iter(ciphers), None)

    @property
    def current(self) -> str | None:
        """Id of the key that seals; null if none does."""
        return self._current

    def seal(self, plain: str) -> Sealed:
        """Seal a secret with the current key, or leave it plain if there is none."""
        if self._current is None:
            return Sealed(plain.encode(), None)
        nonce = entropy.token_bytes(NONCE_BYTES)
        ciphertext = self._ciphers[self._current].encrypt(nonce, plain.encode(), self._current.encode())
        return Sealed(nonce + ciphertext, self._current)

    def open(self, data: bytes, key: str | None) -> str:
        """Return the plain secret. Raises MainKeyMissing if its key is not configured, or is another than it was."""
        if key is None:
            return data.decode()
        cipher = self._ciphers.get(key)
        if cipher is None:
            known = ", ".join(f"`{known}`" for known in self._ciphers) or "none"
            raise MainKeyMissing(
                f"{SETTING}: secrets in the database are sealed with the main key `{key}`, which is not configured "
                f"(configured: {known}). Add it again, after the key that shall seal from now on.",
                key=key,
            )
        try:
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], key.encode()).decode()
        except InvalidTag:
            raise MainKeyMissing(
                f"{SETTING}: the main key `{key}` does not open what was sealed under that id. Put back the bytes that "
                "it had, and give a new key a new id.",
                key=key,
            ) from None


def parse_key(text: str) -> tuple[str, bytes]:
    """Split `id:base64` into the id and the key's bytes. Raises `ConfigError`, which never repeats the key."""
    key_id, colon, encoded = text.strip().partition(":")
    if not colon or not _ID.fullmatch(key_id):
        raise ConfigError(f"A key has no id, or one that is not 1 to 64 letters, digits, `_`, `.` or `-`. {_HOW}")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"The key `{key_id}` is not base64. {_HOW}") from None
    if len(key) != KEY_BYTES:
        raise ConfigError(f"The key `{key_id}` has {len(key)} bytes. {_HOW}")
    return key_id, key


def new_key(*, random: Callable[[int], bytes] = entropy.token_bytes) -> str:
    """Return a fresh main key with a random id, as it is written in the configuration."""
    # 4 bytes: an id only has to differ from the few keys ever used together
    return f"{random(4).hex()}:{base64.b64encode(random(KEY_BYTES)).decode()}"
