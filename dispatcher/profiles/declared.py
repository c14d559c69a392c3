"""Profiles that are data: which headers, over what content, with which key, written how."""

import base64
import hmac
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dispatcher.errors import InvalidInput
from dispatcher.formats.references import iso
from dispatcher.model import Secret
from dispatcher.profiles.message import Keyed, Message
from dispatcher.signature import key_of

FIELD: Final = "signing_profiles"
MOST_BYTES: Final = 16384
"""Of a definition: the largest known takes 500."""
MOST_HEADERS: Final = 20

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
RESERVED: Final = re.compile(
    # framing and routing, which the request needs to be what it is, what proves the envelope, and what receivers believe of
    # their own proxies
    "host|accept|accept-encoding|content-(length|type|encoding)|transfer-encoding|connection|keep-alive|te|trailer"
    "|upgrade|expect|user-agent|webhook-.*|proxy-.*|forwarded|via|x-real-ip|x-forwarded-.*"
)
"""Names of headers, in lower case, that neither a profile nor a webhook may set."""
_REFERENCE: Final = re.compile(r"\{([^{}]*)\}")
_PROVING: Final = frozenset({"signature", "signatures", "timestamp", "id"})
_PRINTABLE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_CONTENT: Final[Mapping[str, Callable[[Message], bytes]]] = {
    "id": lambda message: message.id.encode(),
    "timestamp": lambda message: b"%d" % message.timestamp,
    "body": lambda message: message.body,
    "type": lambda message: message.event_type.encode(),
    "tenant": lambda message: message.tenant.encode(),
    "url": lambda message: message.target.uri.encode(),
}
_HEADER: Final[Mapping[str, Callable[[Message], str]]] = {
    "id": lambda message: message.id,
    "timestamp": lambda message: str(message.timestamp),
    "type": lambda message: _header_text(message.event_type),
    "tenant": lambda message: _header_text(message.tenant),
    "occurred_at": lambda message: iso(message.occurred_at),
}


class ProfileDefinition(BaseModel):
    """A profile as it is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str | None = Field(default=None, max_length=1000)
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    key: Literal["text", "decoded"] = "text"
    """`text`: the secret's own characters; `decoded`: what follows `whsec_`, decoded from base64."""
    encoding: Literal["hex", "base64"] = "hex"
    content: str = Field(max_length=1000)
    """What is signed: a text with `{body}` and, if wanted, `{id}`, `{timestamp}`, `{type}`, `{tenant}`, `{url}` in it."""
    headers: Mapping[str, str] = Field(min_length=1, max_length=MOST_HEADERS)
    """Texts with `{id}`, `{timestamp}`, `{type}`, `{tenant}`, `{occurred_at}`, and `{signature}` or `{signatures}` in them."""
    each: str = "{signature}"
    """How `{signatures}` writes one signature of several, during a rotation."""
    separator: str = ","
    """What stands between them."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is lower-case letters, digits, `-` and `_`")
        return value

    @field_validator("content")
    @classmethod
    def _covers_the_body(cls, value: str) -> str:
        _check_references(value, _CONTENT)
        if "{body}" not in value:
            raise ValueError("without `{body}` the signature proves nothing of what is sent")
        return value

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not _TOKEN.fullmatch(name) or RESERVED.fullmatch(name.lower()):
                raise ValueError(f"`{name[:100]}` is no header that a profile can set")
            if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", text):
                raise ValueError(f"the value of `{name}` is not printable ASCII with no blanks around it")
            _check_references(text, {*_HEADER, "signature", "signatures"})
        if len({name.lower() for name in value}) != len(value):
            raise ValueError("a header is there twice")
        if not any(reference in text for text in value.values() for reference in ("{signature}", "{signatures}")):
            raise ValueError("no header holds the `{signature}`")
        return value

    @property
    def proving(self) -> tuple[str, ...]:
        """The headers that have a part in the proof, which nobody may replace; others only tell."""
        return tuple(name for name, text in self.headers.items() if _PROVING & set(_REFERENCE.findall(text)))

    @model_validator(mode="after")
    def _writes_each(self) -> Self:
        if "{signature}" not in self.each or not re.fullmatch(r"[\x20-\x7e]*", self.each + self.separator):
            raise ValueError("`each` is printable ASCII with `{signature}` in it, and `separator` printable, too")
        return self


def _check_references(text: str, known: Any) -> None:
    for reference in _REFERENCE.findall(text):
        if reference not in known:
            raise ValueError(f"there is no `{{{reference[:50]}}}`, but {', '.join(f'{{{one}}}' for one in known)}")


def read(text: str, *, source: str) -> ProfileDefinition:
    """Read a definition from the text of a `.toml` or `.json` file; raises InvalidInput, naming file and place."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise InvalidInput(f"{source}: a signing profile has at most {MOST_BYTES} bytes.", field=FIELD)
    try:
        document = tomllib.loads(text) if source.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if source.endswith(".toml") else "JSON"
        raise InvalidInput(f"{source} is not {kind}: {error}.", field=FIELD) from None
    try:
        return ProfileDefinition.model_validate(document)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg'].removeprefix('Value error, ')}."
            for fault in error.errors()[:10]
        ]
        raise InvalidInput(f"{source} is no signing profile. {' '.join(faults)}", field=FIELD) from None


def written(definition: ProfileDefinition) -> str:
    """Write a definition as the JSON that is stored."""
    return json.dumps(definition.model_dump(mode="json", exclude_unset=True), ensure_ascii=False)


@lru_cache(maxsize=256)  # a company has a handful
def stored(definition: str) -> ProfileDefinition:
    """Read a definition as it is stored; raises InvalidInput."""
    return read(definition, source="the stored definition")


class Declared:
    """A declared profile, ready for one endpoint."""

    def __init__(self, definition: ProfileDefinition, secrets: Sequence[Secret], *, own: Iterable[str] = ()) -> None:
        """Leave out what the endpoint's own headers say instead; raises InvalidInput for a secret that is of no use."""
        self._keyed = Keyed(
            [(key(definition, secret.value), secret.expires_at) for secret in secrets], algorithm=definition.algorithm
        )
        self._content = _compiled(definition.content)
        self._encode = _ENCODINGS[definition.encoding]
        replaced = {name.lower() for name in own}
        self._headers = [
            (name, references(text))
            for name, text in definition.headers.items()
            if name in definition.proving or name.lower() not in replaced
        ]
        self._several = any("{signatures}" in text for text in definition.headers.values())
        self._each = definition.each
        self._separator = definition.separator

    def headers(self, message: Message, *, now: float) -> dict[str, str]:
        """Return the declared headers."""
        content = _content(self._content, message)
        values = {"signature": self._encode(self._keyed.one(content, now=now))}
        if self._several:
            signatures = [self._encode(digest) for digest in self._keyed.all(content, now=now)]
            values["signatures"] = self._separator.join(
                self._each.replace("{signature}", signature) for signature in signatures
            )
        return {name: _filled(parts, message, values) for name, parts in self._headers}


def key(definition: ProfileDefinition, secret: str) -> bytes:
    """Return the key that a secret stands for; raises InvalidInput if it is to be decoded and cannot be."""
    return key_of(secret) if definition.key == "decoded" else secret.encode()


def _compiled(template: str) -> list[bytes | Callable[[Message], bytes]]:
    return [_CONTENT[part] if number % 2 else part.encode() for number, part in enumerate(_REFERENCE.split(template))]


def _content(compiled: Sequence[bytes | Callable[[Message], bytes]], message: Message) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part(message) for part in compiled)


def signature_of(definition: ProfileDefinition, secret: str, message: Message) -> str:
    """Return the one signature that a secret gives a message, for who verifies it."""
    content = _content(_compiled(definition.content), message)
    digest = hmac.digest(key(definition, secret), content, definition.algorithm)
    return _ENCODINGS[definition.encoding](digest)


def references(template: str) -> list[str]:
    """Return the texts and the references of a template by turns, a text first."""
    return _REFERENCE.split(template)


def _filled(parts: Sequence[str], message: Message, values: Mapping[str, str]) -> str:
    return "".join(
        part if not number % 2 else values[part] if part in values else _HEADER[part](message)
        for number, part in enumerate(parts)
    )


def _header_text(text: str) -> str:
    """Write what others chose so that it fits into a header: all but printable ASCII is percent-encoded."""
    return text if text.isascii() and text.isprintable() and "%" not in text else quote(text, safe=_PRINTABLE)


def _hex(digest: bytes) -> str:
    return digest.hex()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


_ENCODINGS: Final[Mapping[str, Callable[[bytes], str]]] = {"hex": _hex, "base64": _base64}
