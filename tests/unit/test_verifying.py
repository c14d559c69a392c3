"""The receiver's part of every signing profile: what the service signs is verified, and nothing else is."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from dispatcher.envelope import Envelopes
from dispatcher.errors import InvalidInput
from dispatcher.model import Endpoint, EndpointId, EndpointState, Event, EventId, Secret, Shard
from dispatcher.profiles import known
from dispatcher.profiles.declared import ProfileDefinition
from dispatcher.profiles.message import Target
from dispatcher.profiles.verifying import Arrived, Verifier
from dispatcher.signature import SignatureMismatch, new_private_key, new_secret, public_key_of

NOW = 1_767_225_600.0
URL = "https://hooks.example.com/in/%C3%A9?x=1"
SECRET = new_secret()
FOREIGN = "your-secret-key"
PRIVATE = new_private_key()
PUBLIC = public_key_of(PRIVATE)
OURS = {
    "name": "ours",
    "algorithm": "sha512",
    "encoding": "base64",
    "content": "{id}|{tenant}|{type}|{url}|{timestamp}|{body}",
    "headers": {"X-Ours": "at {timestamp} by {tenant} of {type}", "X-Ours-Signature": "s={signature}"},
}


def endpoint(
    *profiles: str, secrets: tuple[str, ...] = (SECRET,), headers: Mapping[str, str] | None = None
) -> Endpoint:
    """An endpoint that signs by profiles; all secrets but the first end soon."""
    return Endpoint(
        id=EndpointId(UUID(int=7)),
        shard=Shard(0),
        tenant="acme north",
        url=URL,
        state=EndpointState.ACTIVE,
        secrets=tuple(Secret(one, None if number == 0 else NOW + 60) for number, one in enumerate(secrets)),
        payload_format="raw",
        signing_profiles=profiles,
        profile_definitions={"ours": json.dumps(OURS)},
        headers=headers or {},
    )


def arrived(of: Endpoint, *, at: float = NOW) -> Arrived:
    """What the endpoint's receiver gets of an event whose type no header can hold as it is."""
    event = Event(EventId(UUID(int=9)), of.tenant, "naïve 100%", '{"price": 1.10}', NOW - 5, NOW)
    envelope = Envelopes(of).envelope(event, at)
    headers = {name.lower(): value for name, value in envelope.headers.items()}
    return Arrived(Target.of(of.url), headers, envelope.body)


def verifier(name: str, *secrets: str) -> Verifier:
    """A verifier; of `ours` by its definition."""
    return Verifier(ProfileDefinition.model_validate(OURS) if name == "ours" else name, secrets)


DECLARED = sorted(known.shipped())
ALL = [*DECLARED, "ours", "healthie", "healthie:hex", "healthie:base64-nopad", "rfc9421", "standard", "v1a"]


@pytest.mark.parametrize("name", ALL)
def test_what_is_signed_is_verified(name: str) -> None:
    """Every profile, beside Standard Webhooks; of several secrets any will do."""
    private = (PRIVATE,) if name == "v1a" else ()
    request = arrived(endpoint(*{"standard": None, name: None}, secrets=(SECRET, *private)))
    secret, other = (PUBLIC, public_key_of(new_private_key())) if name == "v1a" else (SECRET, new_secret())

    verifier(name, other, secret).verify(request, now=NOW + 1)


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_is_refused(name: str) -> None:
    """Another secret, another body, no headers: each with its reason."""
    private = (PRIVATE,) if name == "v1a" else ()
    request = arrived(endpoint(*{"standard": None, name: None}, secrets=(SECRET, *private)))
    secret, other = (PUBLIC, public_key_of(new_private_key())) if name == "v1a" else (SECRET, new_secret())

    for one, tried, says in [
        (other, request, "No signature matches"),
        (secret, replace(request, body=request.body + b" "), "changed on its way|is not the body's"),
        (secret, replace(request, headers={}), "missing"),
    ]:
        with pytest.raises(SignatureMismatch, match=says):
            verifier(name, one).verify(tried, now=NOW)


@pytest.mark.parametrize("name", ["hero", "slack", "stripe", "ours", "rfc9421", "standard"])
def test_what_was_signed_long_ago_is_refused(name: str) -> None:
    """Where a time is signed, five minutes either way."""
    request = arrived(endpoint(*{"standard": None, name: None}))

    for now in (NOW - 301, NOW + 301):
        with pytest.raises(SignatureMismatch, match="at most 300 s"):
            verifier(name, SECRET).verify(request, now=now)


@pytest.mark.parametrize(
    "name", ["decoda", "github", "healthie", "hero", "rfc9421", "shopify", "slack", "stripe", "standard"]
)
def test_secrets_of_other_systems_verify(name: str) -> None:
    """Any text, where a profile allows it; and Standard Webhooks' headers beside it."""
    request = arrived(endpoint("standard", name if name != "standard" else "hero", secrets=(FOREIGN,)))

    verifier(name, FOREIGN).verify(request, now=NOW)


def test_one_of_several_signatures_will_do() -> None:
    """During a rotation Stripe's header holds both."""
    request = arrived(endpoint("standard", "stripe", secrets=("the new one", "the old one")))

    for secret in ("the new one", "the old one"):
        verifier("stripe", secret).verify(request, now=NOW)


def test_without_standard_webhooks_profiles_verify_alone() -> None:
    """RFC 9421 covers the `webhook-id` only where there is one."""
    for name in ("rfc9421", "hero", "stripe"):
        verifier(name, SECRET).verify(arrived(endpoint("without-standard", name)), now=NOW)


@pytest.mark.parametrize(
    "profile, secret, says",
    [
        pytest.param("stirpe", FOREIGN, "Did you mean `stripe`", id="no such profile"),
        pytest.param("without-standard", FOREIGN, "signs nothing", id="no signature"),
        pytest.param("healthie:b64", FOREIGN, "healthie:base64-nopad", id="no such form"),
        pytest.param("hero", "short", "8 to 256", id="no secret"),
        pytest.param("v1a", SECRET, "public key", id="no public key"),
        pytest.param("v1a", "whpk_AAAA", "public key", id="too short a public key"),
    ],
)
def test_what_cannot_be_is_refused_at_once(profile: str, secret: str, says: str) -> None:
    """Before the first request, and without repeating the secret."""
    with pytest.raises(InvalidInput, match=says) as refusal:
        Verifier(profile, [secret])

    assert secret not in str(refusal.value)


def test_a_part_that_no_header_tells_is_named() -> None:
    """A definition can sign what it does not send."""
    definition: dict[str, Any] = OURS | {"headers": {"X-Ours-Signature": "s={signature}"}}
    request = arrived(endpoint("standard", "ours"))

    with pytest.raises(SignatureMismatch, match=r"`\{tenant\}`, `\{type\}`"):
        Verifier(ProfileDefinition.model_validate(definition), [SECRET]).verify(request, now=NOW)


@pytest.mark.parametrize("text", ["", "t=1", "v1=abc", "t=x,v1=abc", "t=1767225600,v1=é", "t=1767225600,v0=abc"])
def test_a_header_of_another_form_is_a_mismatch(text: str) -> None:
    """Whatever arrives, it is an answer and no fault."""
    request = Arrived(Target.of(URL), {"stripe-signature": text}, b"{}")

    with pytest.raises(SignatureMismatch):
        verifier("stripe", FOREIGN).verify(request, now=NOW)
