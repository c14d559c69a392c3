"""Does a receiver's part: tells whether a request was signed as a profile has it. The service itself never does.

Code profiles sign the request anew and compare. Declared ones are read backwards: what a header's text has in its
references is what the signed content is made of.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret
from dispatcher.profiles import healthie, known, rfc9421
from dispatcher.profiles.declared import ProfileDefinition, key, references, signature_of
from dispatcher.profiles.message import Message, Target
from dispatcher.signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    SignatureMismatch,
    check_age,
    check_secret,
    is_public_key,
    verify,
    verify_v1a,
)

_TOKENS: Final = {"timestamp": "[0-9]{1,12}"}
"""How a reference looks in a header, where it is more than any text."""
_PARAMETERS: Final = re.compile(r';created=(?P<created>[0-9]{1,12});keyid="(?P<keyid>[^"]*)"')
"""Of the profile `rfc9421`."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as its receiver has it."""

    target: Target
    headers: Mapping[str, str]
    """Their names in lower case."""
    body: bytes


class Verifier:
    """Verifies by one profile: `standard`, `v1a`, one that comes with the service, or a definition of one's own."""

    def __init__(self, profile: str | ProfileDefinition, secrets: Sequence[str]) -> None:
        """Take secrets of which any will do; raises InvalidInput for a profile or a secret that cannot be."""
        self.name = profile if isinstance(profile, str) else profile.name
        self._secrets = tuple(secrets)
        self._definition = profile if isinstance(profile, ProfileDefinition) else known.definition_of(profile)
        for secret in secrets:
            self._check(secret)

    def _check(self, secret: str) -> None:
        if self.name == known.V1A:
            if not is_public_key(secret):
                raise InvalidInput("`v1a` is verified with the webhook's public key, `whpk_…`.", field="secret")
            return
        check_secret(secret)
        if self._definition is not None:
            key(self._definition, secret)

    def verify(self, arrived: Arrived, *, now: float) -> None:
        """Raise SignatureMismatch, which says why, unless one of the secrets signed the request, and recently."""
        base, _, option = self.name.partition(":")
        if self._definition is not None:
            self._verify_declared(self._definition, arrived, now=now)
        elif base == known.STANDARD:
            verify(self._secrets, arrived.headers, arrived.body, now=now)
        elif base == known.V1A:
            self._verify_v1a(arrived, now=now)
        elif base == "healthie":
            self._verify_healthie(arrived, form=option or healthie.FORMS[0])
        else:
            self._verify_rfc9421(arrived, now=now)

    def _verify_v1a(self, arrived: Arrived, *, now: float) -> None:
        _demand(arrived, (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
        timestamp = check_age(arrived.headers[TIMESTAMP_HEADER], TIMESTAMP_HEADER, now=now)
        given = [token for token in arrived.headers[SIGNATURE_HEADER].split() if token.startswith("v1a,")]
        if not given:
            raise SignatureMismatch(f"The header {SIGNATURE_HEADER} holds no v1a signature.")
        message_id = arrived.headers[ID_HEADER]
        for public_key in self._secrets:
            if any(verify_v1a(public_key, message_id, timestamp, arrived.body, token) for token in given):
                return
        raise _mismatch()

    def _verify_healthie(self, arrived: Arrived, *, form: str) -> None:
        _demand(arrived, healthie.HEADERS)
        message = _message(arrived)
        for secret in self._secrets:
            expected = healthie.Healthie([Secret(secret, None)], form=form).headers(message, now=0.0)
            if expected["Content-Digest"] != arrived.headers["content-digest"]:
                raise SignatureMismatch(f"The header Content-Digest is not the body's, in the form `{form}`.")
            if _same(expected["Signature"], arrived.headers["signature"]):
                return
        raise _mismatch()

    def _verify_rfc9421(self, arrived: Arrived, *, now: float) -> None:
        _demand(arrived, rfc9421.HEADERS)
        parameters = _PARAMETERS.search(arrived.headers["signature-input"])
        if parameters is None:
            raise SignatureMismatch(
                "The header Signature-Input has no `created` and `keyid` as this service writes them."
            )
        created = check_age(parameters["created"], "Signature-Input", now=now)
        message = _message(arrived, timestamp=created)
        with_id = f'"{ID_HEADER}"' in arrived.headers["signature-input"]
        for secret in self._secrets:
            signer = rfc9421.Rfc9421([Secret(secret, None)], keyid=parameters["keyid"], with_id=with_id)
            expected = signer.headers(message, now=0.0)
            if expected["Content-Digest"] != arrived.headers["content-digest"]:
                raise SignatureMismatch("The header Content-Digest is not the body's.")
            if all(_same(expected[name], arrived.headers[name.lower()]) for name in rfc9421.HEADERS):
                return
        raise _mismatch()

    def _verify_declared(self, definition: ProfileDefinition, arrived: Arrived, *, now: float) -> None:
        _demand(arrived, definition.headers)
        signatures: list[str] = []
        told: dict[str, str] = {}
        for name, template in definition.headers.items():
            for reference, value in _read(template, arrived.headers[name.lower()], name):
                if reference == "signature":
                    signatures.append(value)
                elif reference == "signatures":
                    signatures += _each(definition, value)
                else:
                    told[reference] = value
        message = _signed(definition, arrived, told, now=now)
        for secret in self._secrets:
            expected = signature_of(definition, secret, message)
            if any(_same(expected, given) for given in signatures):
                return
        raise _mismatch()


def _demand(arrived: Arrived, names: Sequence[str] | Mapping[str, str]) -> None:
    missing = [name for name in names if not arrived.headers.get(name.lower())]
    if missing:
        raise SignatureMismatch(f"The header {', '.join(missing)} is missing.")


def _message(arrived: Arrived, *, timestamp: int = 0, told: Mapping[str, str] = MappingProxyType({})) -> Message:
    """Put together what was signed; what others chose is percent-encoded in a header."""
    return Message(
        id=told.get("id") or arrived.headers.get(ID_HEADER, ""),
        timestamp=timestamp,
        body=arrived.body,
        content_type=arrived.headers.get("content-type", ""),
        event_type=unquote(told.get("type", "")),
        tenant=unquote(told.get("tenant", "")),
        occurred_at=0.0,  # never signed
        target=arrived.target,
    )


def _read(template: str, text: str, name: str) -> list[tuple[str, str]]:
    """Return what stands for each reference of a header's template."""
    parts = references(template)
    pattern = "".join(
        f"({_TOKENS.get(part, '.+')})" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, text)
    if found is None:
        raise SignatureMismatch(f"The header {name} is not of the form `{template}`.")
    return list(zip(parts[1::2], found.groups(), strict=True))


def _each(definition: ProfileDefinition, text: str) -> list[str]:
    """Return the signatures of a header that can hold several."""
    before, after = definition.each.split("{signature}", 1)
    parts = text.split(definition.separator) if definition.separator else [text]
    return [part.removeprefix(before).removesuffix(after) for part in parts if part.startswith(before)]


def _signed(definition: ProfileDefinition, arrived: Arrived, told: Mapping[str, str], *, now: float) -> Message:
    """Put together what was signed; what no header of the profile tells, those of Standard Webhooks may."""
    standard = {"id": ID_HEADER, "timestamp": TIMESTAMP_HEADER}
    values = {name: arrived.headers[header] for name, header in standard.items() if header in arrived.headers}
    values |= told
    needed = set(references(definition.content)[1::2]) - {"body", "url"}
    missing = [f"`{{{name}}}`" for name in sorted(needed) if not values.get(name)]
    if missing:
        raise SignatureMismatch(f"No header tells the {', '.join(missing)} that is a part of what was signed.")
    timestamp = check_age(values["timestamp"], "with the timestamp", now=now) if "timestamp" in needed else 0
    return _message(arrived, timestamp=timestamp, told=values)


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))


def _mismatch() -> SignatureMismatch:
    return SignatureMismatch("No signature matches: the secret is another one, or the request was changed on its way.")
