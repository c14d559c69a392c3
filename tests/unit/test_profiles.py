"""Signing profiles, held against the vectors and the libraries of the systems they stand for."""

import base64
import hmac
import json
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import standardwebhooks
import stripe
import svix
from http_message_signatures import HTTPMessageVerifier, InvalidSignature, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret
from dispatcher.profiles import known
from dispatcher.profiles.declared import Declared, ProfileDefinition, read
from dispatcher.profiles.message import Message, Target
from dispatcher.signature import Signer, public_key_of, signing_key, verify, verify_v1a

NOW = 1674087231
TEST_BODY = b'{"resource_id":"12345","resource_id_type":"Test","event_type":"test.created","changed_fields":[]}'


def message(
    body: bytes = TEST_BODY,
    *,
    url: str = "https://hooks.example.com/in?x=1",
    timestamp: int = NOW,
    message_id: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    event_type: str = "test.created",
) -> Message:
    """Make a request that is about to be sent."""
    return Message(message_id, timestamp, body, "application/json", event_type, "acme", 1674087230.5, Target.of(url))


def signed(
    name: str, secret: str, of: Message, *, keyid: str = "ep_1", more: tuple[Secret, ...] = ()
) -> dict[str, str]:
    """Return the headers of one profile."""
    (profile,) = known.resolve(["standard", name], (Secret(secret, None), *more), keyid=keyid, definitions={})
    return dict(profile.headers(of, now=of.timestamp))


# --- Healthie ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile, url, signature",
    [
        pytest.param(
            "healthie", "https://example.com/uri/path/here",
            "47de005f05e00561df0fc1f0ff64545e969759391c047835b56a7d497aef70c9", id="base64",
        ),
        pytest.param(
            "healthie:base64", "https://example.com/hooks?practiceId=42",
            "34eb91d238c0e06a61bed3f1b29a4ddd971eaf8bddee714a9a681d9840b92677", id="base64, query",
        ),
        pytest.param(
            "healthie:base64-nopad", "https://example.com/uri/path/here",
            "627bf1549e472c45b42277aa1f6617af14f1979b9383693b7f5d9919e4aeb2e2", id="no padding",
        ),
        pytest.param(
            "healthie:base64-nopad", "https://example.com/hooks?practiceId=42",
            "3763089a12a13313989b2607ae19a028eda382591ec3e2900db48733c4b10161", id="no padding, query",
        ),
        pytest.param(
            "healthie:hex", "https://example.com/uri/path/here",
            "5e7095962167b68f2ebf834d51b611149038aa30fc5d24b83609d7e2a832db03", id="hex",
        ),
        pytest.param(
            "healthie:hex", "https://example.com/hooks?practiceId=42",
            "c1153ee8842dd674f883167506cb4fea213585d8d8ea51d25406960c0ad4b71f", id="hex, query",
        ),
    ],
)  # fmt: skip
def test_healthie_signs_as_its_recipe_says(profile: str, url: str, signature: str) -> None:
    """The vectors computed from the documented recipe, in every form of the digest."""
    headers = signed(profile, "whsec_my-secret-key", message(url=url))

    assert headers["Signature"] == f"sig1={signature}"
    assert set(headers) == {"Content-Digest", "Signature-Input", "Signature"}


def documented_healthie_check(secret: str, url: str, headers: dict[str, str], body: bytes) -> bool:
    """Do what Healthie's documentation has a receiver do: the digest is what stands between the first two `=`."""
    target = urlsplit(url)
    digest = headers["Content-Digest"].split("=")[1]
    length = len(json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode("utf-16-le")) // 2
    data = f"post {target.path} {target.query} {digest} application/json {length}"
    expected = hmac.new(secret.encode(), data.encode(), "sha256").hexdigest()
    return headers["Signature"].removeprefix("sig1=") == expected


@pytest.mark.parametrize(
    "profile, accepted", [("healthie:hex", True), ("healthie:base64-nopad", True), ("healthie", False)]
)
def test_healthies_own_sample_takes_what_has_no_padding(profile: str, accepted: bool) -> None:  # noqa: FBT001 - pytest passes names
    """The documentation's sample accepts two of the forms; the padded one is what live traffic was seen to have."""
    url = "https://example.com/hooks?practiceId=42"
    headers = signed(profile, "whsec_my-secret-key", message(url=url))

    assert documented_healthie_check("whsec_my-secret-key", url, headers, TEST_BODY) is accepted


# --- declared ---------------------------------------------------------------------------------------------------------


def test_decoda_signs_the_raw_body() -> None:
    """Decoda's own sample, whose body is as Python's `json.dumps` writes it."""
    body = (
        b'{"id": "evt_1234567890", "type": "PATIENT_CREATED", "data": {"id": "pat_1234567890"}, '
        b'"createdDate": "2024-03-15T10:30:00Z", "alertId": "alert_1234567890"}'
    )

    headers = signed("decoda", "961c2c1c9c66dad600f29a26e0320a96", message(body))

    assert headers == {"Decoda-Signature": "8fc536055ffa0fd6f2bbe0ceb49a611eb310e886362662d9657422c8a2fab74a"}


def test_hero_signs_timestamp_and_body() -> None:
    """Hero's recipe over a minified body."""
    body = b'{"object":"Appointment","id":"apt_1","practice_group_id":"pg_1","event":"appointment.confirmed"}'

    headers = signed("hero", "your-secret-key", message(body))

    assert headers == {
        "X-Herohealth-Timestamp": "1674087231",
        "X-Herohealth-Signature": "b4b2ace66bc2c1e6ee36e9be531192b7bc62e919ec939a829943c9f15b68815d",
    }


def test_github_signs_as_its_documentation_shows() -> None:
    """GitHub's published example, and the headers that name event and delivery."""
    headers = signed("github", "It's a Secret to Everybody", message(b"Hello, World!", event_type="push"))

    assert headers["X-Hub-Signature-256"] == ("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    assert (headers["X-GitHub-Event"], headers["X-GitHub-Delivery"]) == ("push", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")


def test_slack_signs_as_its_documentation_shows() -> None:
    """Slack's published example."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )

    headers = signed("slack", "8f742231b10e8888abcd99yyyzzz85a5", message(body, timestamp=1531420618))

    assert headers == {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }


def test_shopify_signs_in_base64() -> None:
    """A receiver's usual check: base64 of the HMAC of the raw body."""
    headers = signed("shopify", "hush-hush-hush", message(event_type="orders/create"))

    expected = base64.b64encode(hmac.digest(b"hush-hush-hush", TEST_BODY, "sha256")).decode()
    assert headers["X-Shopify-Hmac-SHA256"] == expected
    assert (headers["X-Shopify-Topic"], headers["X-Shopify-Shop-Domain"]) == ("orders/create", "acme")
    assert headers["X-Shopify-Webhook-Id"] == headers["X-Shopify-Event-Id"] == "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    assert headers["X-Shopify-Triggered-At"] == "2023-01-19T00:13:50.500000Z"


def test_an_own_header_says_otherwise_what_a_profile_would_only_tell() -> None:
    """A shop's domain need not be the tenant's name; what proves the request stays the profile's."""
    names, own = ["standard", "shopify"], {"x-shopify-shop-domain": "acme.example", "X-Shopify-API-Version": "2026-01"}
    secret = Secret("hush-hush-hush", None)

    known.check(names, [secret.value], own, {})
    (profile,) = known.resolve(names, [secret], keyid="e", definitions={}, own=own)

    assert "X-Shopify-Shop-Domain" not in profile.headers(message(), now=NOW)
    for proving in ("X-Shopify-Hmac-SHA256", "x-shopify-event-id"):
        with pytest.raises(InvalidInput, match="an own header"):
            known.check(names, [secret.value], [proving], {})


def test_stripes_library_accepts_and_takes_either_key_of_a_rotation() -> None:
    """Stripe's own library verifies; during a rotation with the new secret and with the old one."""
    of = message(timestamp=1_700_000_000)
    headers = signed("stripe", "whsec_new", of, more=(Secret("whsec_old", of.timestamp + 60.0),))

    for secret in ("whsec_new", "whsec_old"):
        assert stripe.WebhookSignature.verify_header(TEST_BODY.decode(), headers["Stripe-Signature"], secret, None)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(TEST_BODY.decode(), headers["Stripe-Signature"], "whsec_other", None)


def test_a_scheme_with_one_signature_keeps_the_old_key_until_its_end() -> None:
    """The overlap is the time that a receiver has to deploy the new secret."""
    (profile,) = known.resolve(
        ["hero"], [Secret("the new one", None), Secret("the old one", 100.0)], keyid="e", definitions={}
    )
    of = message(timestamp=50)

    during, after = profile.headers(of, now=99.0), profile.headers(of, now=100.0)

    content = b"50." + TEST_BODY
    assert during["X-Herohealth-Signature"] == hmac.new(b"the old one", content, "sha256").hexdigest()
    assert after["X-Herohealth-Signature"] == hmac.new(b"the new one", content, "sha256").hexdigest()


def test_what_others_chose_cannot_break_out_of_a_header() -> None:
    """Event types are opaque: what no header can hold is percent-encoded."""
    headers = signed("github", "It's a Secret to Everybody", message(event_type="naïve 100%"))

    assert headers["X-GitHub-Event"] == "na%C3%AFve 100%25"


@pytest.mark.parametrize(
    "change, place",
    [
        pytest.param({"content": "{timestamp}"}, "content", id="body not signed"),
        pytest.param({"content": "{body}{foo}"}, "content", id="unknown in content"),
        pytest.param({"headers": {"X-A": "{sig}"}}, "headers", id="unknown in header"),
        pytest.param({"headers": {"X-A": "fixed"}}, "headers", id="no signature"),
        pytest.param({"headers": {"Host": "{signature}"}}, "headers", id="reserved"),
        pytest.param({"headers": {"webhook-id": "{signature}"}}, "headers", id="of Standard Webhooks"),
        pytest.param({"headers": {"A B": "{signature}"}}, "headers", id="no name"),
        pytest.param({"headers": {"X-A": "{signature}\r\nB: c"}}, "headers", id="injection"),
        pytest.param({"headers": {"X-A": "{signature}", "x-a": "{id}"}}, "headers", id="twice"),
        pytest.param({"headers": {}}, "headers", id="none"),
        pytest.param({"key": "md5"}, "key", id="unknown key"),
        pytest.param({"encoding": "base32"}, "encoding", id="unknown encoding"),
        pytest.param({"algorithm": "md5"}, "algorithm", id="weak algorithm"),
        pytest.param({"name": "Mine!"}, "name", id="bad name"),
        pytest.param({"each": "v1"}, "the whole", id="each without signature"),
        pytest.param({"typo": 1}, "typo", id="unknown key of the definition"),
    ],
)
def test_a_bad_definition_is_refused_with_the_place(change: dict[str, Any], place: str) -> None:
    """What is wrong with a profile is said before anybody signs by it."""
    good = {"name": "mine", "content": "{body}", "headers": {"X-Mine": "{signature}"}}
    assert read(json.dumps(good), source="mine.json").name == "mine"

    with pytest.raises(InvalidInput) as refusal:
        read(json.dumps(good | change), source="mine.json")

    assert refusal.value.field == "signing_profiles"
    assert f" {place}: " in str(refusal.value)


def test_a_definition_can_say_sha512_and_a_decoded_key() -> None:
    """The choices that no shipped profile makes."""
    definition = ProfileDefinition(
        name="mine", algorithm="sha512", key="decoded", content="{id}|{type}|{body}", headers={"X": "{signature}"}
    )
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()

    headers = Declared(definition, [Secret(secret, None)]).headers(message(), now=0.0)

    content = b"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W|test.created|" + TEST_BODY
    assert headers == {"X": hmac.new(b"k" * 32, content, "sha512").hexdigest()}


# --- RFC 9421 ---------------------------------------------------------------------------------------------------------

RFC_KEY = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="


def test_rfc9421_matches_the_vector() -> None:
    """The vector for the components that are covered here, with the key of RFC 9421, appendix B.1.5."""
    headers = signed("rfc9421", f"whsec_{RFC_KEY}", message())

    assert headers == {
        "Content-Digest": "sha-256=:jf07CvufnNYfqO2HHd3apvnsa9uq6cwighMD2Jx/owI=:",
        "Signature-Input": (
            'sig1=("@method" "@target-uri" "content-type" "content-digest" "webhook-id");created=1674087231;'
            'keyid="ep_1";alg="hmac-sha256";tag="webhook"'
        ),
        "Signature": "sig1=:TtjezIIilLlDBkVoFufyaMZRpr0SEouRKfB9lF6gEKE=:",
    }


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the library wants to see it."""

    method: str
    url: str
    headers: dict[str, str]


def verify_rfc9421(of: Message, headers: dict[str, str], body: bytes) -> bytes | None:
    """Verify with the library; returns the body that it vouches for."""
    resolver = MappingKeyResolver(public_keys={"ep_1": b"s" * 32}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=resolver)
    (result,) = verifier.verify(
        Request("POST", of.target.uri, headers), expect_tag="webhook", max_age=None, body=body,
        require_components=("@method", "@target-uri", "content-type", "content-digest"),
    )  # fmt: skip
    return result.body


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/in?x=1", "https://hooks.example.com", "http://127.0.0.1:8080/a%20b?q=%C3%A9&r="]
)
@pytest.mark.parametrize("names", [("standard", "rfc9421"), ("without-standard", "rfc9421")])
def test_an_independent_library_verifies_rfc9421(url: str, names: tuple[str, ...]) -> None:
    """`http-message-signatures` accepts what is sent, and refuses another body or header."""
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    of = message(url=url)
    (profile,) = known.resolve(names, [Secret(secret, None)], keyid="ep_1", definitions={})
    headers = {**profile.headers(of, now=NOW), "Content-Type": "application/json", "webhook-id": of.id}

    assert verify_rfc9421(of, headers, TEST_BODY) == TEST_BODY

    assert ("webhook-id" in headers["Signature-Input"]) is ("standard" in names)
    with pytest.raises(InvalidSignature):
        verify_rfc9421(of, headers, b"{}")
    with pytest.raises(InvalidSignature):
        verify_rfc9421(of, headers | {"Content-Type": "text/plain"}, TEST_BODY)


# --- Standard Webhooks with secrets of other systems, and ed25519 -----------------------------------------------------


@pytest.mark.parametrize("secret", ["your-secret-key", "whsec_my-secret-key", "961c2c1c9c66dad600f29a26e0320a96"])
def test_a_foreign_secret_is_its_own_standard_key(secret: str) -> None:
    """A Standard Webhooks library that is given the base64 of the secret's characters accepts."""
    now = int(time())
    headers = Signer([Secret(secret, None)]).headers("msg_1", now, TEST_BODY, now=now)
    as_standard = "whsec_" + base64.b64encode(secret.encode()).decode()

    verify([secret], headers, TEST_BODY, now=now)
    for library in (standardwebhooks.Webhook, svix.Webhook):
        library(as_standard).verify(TEST_BODY, headers)


SEED = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PUBLIC = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    "key, signature",
    [
        pytest.param(
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
            "hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            id="the specification's",
        ),
        pytest.param(
            SEED, "yoUrgEkc12aGqm0n4Sydmdz55xJfTz4AsAgieHFjmkR7LJtqVCZOQYzvvHjI5kAey+r4iaBGxTFRrl2iBQxtDQ==", id="own"
        ),
    ],
)
def test_v1a_matches_the_vectors(key: str, signature: str) -> None:
    """The ed25519 signature comes first, so that a reader of the last one still sees the shared secret's."""
    secrets = [Secret(STANDARD_SECRET, None), Secret(key, None)]

    headers = Signer(secrets).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', now=0.0)

    assert headers["webhook-signature"] == f"v1a,{signature} v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_public_key_verifies() -> None:
    """What the subscriber is given verifies what the private key signed, and nothing else."""
    headers = Signer([Secret(STANDARD_SECRET, None), Secret(SEED, None)]).headers("msg_1", 7, b"{}", now=0.0)
    v1a = headers["webhook-signature"].split(" ")[0]

    assert public_key_of(SEED) == PUBLIC
    assert verify_v1a(PUBLIC, "msg_1", 7, b"{}", v1a)
    assert not verify_v1a(PUBLIC, "msg_1", 7, b"[]", v1a)


def test_libraries_accept_a_header_with_both() -> None:
    """`v1a` beside `v1` disturbs neither library."""
    now = int(time())
    headers = Signer([Secret(STANDARD_SECRET, None), Secret(SEED, None)]).headers("msg_1", now, b"{}", now=now)

    for library in (standardwebhooks.Webhook, svix.Webhook):
        library(STANDARD_SECRET).verify(b"{}", headers)


# --- lists of profiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, stored",
    [
        pytest.param([], ("standard",), id="none"),
        pytest.param(["decoda"], ("standard", "decoda"), id="added"),
        pytest.param(["decoda", "standard", "decoda"], ("standard", "decoda"), id="folded"),
        pytest.param(["without-standard", "decoda"], ("without-standard", "decoda"), id="instead"),
    ],
)
def test_standard_webhooks_is_there_unless_it_is_left_out(given: list[str], stored: tuple[str, ...]) -> None:
    """Profiles add their headers; only `without-standard` takes any away."""
    assert known.put_in_order(given) == stored


@pytest.mark.parametrize("given", [["without-standard"], ["without-standard", "v1a"], ["without-standard", "standard"]])
def test_a_list_without_signature_or_sense_is_refused(given: list[str]) -> None:
    """Something must sign, and not both with and without."""
    with pytest.raises(InvalidInput):
        known.put_in_order(given)


@pytest.mark.parametrize(
    "names, secret, headers, says",
    [
        pytest.param(["standard", "decodda"], STANDARD_SECRET, [], "Did you mean `decoda`?", id="near miss"),
        pytest.param(["standard", "healthie:b64"], STANDARD_SECRET, [], "healthie:base64-nopad", id="no such form"),
        pytest.param(["standard", "hero:hex"], STANDARD_SECRET, [], "nothing to choose", id="nothing to choose"),
        pytest.param(["standard", "healthie", "rfc9421"], STANDARD_SECRET, [], "Content-Digest", id="same headers"),
        pytest.param(["standard", "decoda"], STANDARD_SECRET, ["decoda-signature"], "an own header", id="own header"),
        pytest.param(["standard"], "swordfish-swordfish", [], "signing profile", id="foreign secret alone"),
        pytest.param(["standard", "mine"], "swordfish-swordfish", [], "does not start", id="secret to be decoded"),
    ],
)
def test_what_does_not_go_together_is_refused(names: list[str], secret: str, headers: list[str], says: str) -> None:
    """Names, headers and secrets are held against each other at the door; the secret is never repeated."""
    mine = '{"name":"mine","key":"decoded","content":"{body}","headers":{"X":"{signature}"}}'

    with pytest.raises(InvalidInput) as refusal:
        known.check(names, [secret], headers, {"mine": mine})

    assert says in str(refusal.value)
    assert "swordfish" not in str(refusal.value)


def test_every_shipped_profile_can_be_used_with_all_others() -> None:
    """Several sign at once; only Healthie's and RFC 9421's headers have the same names."""
    names = [name for name in known.built_in_names() if name not in ("without-standard", "rfc9421")]

    known.check(names, [STANDARD_SECRET], [], {})

    secrets = [Secret(STANDARD_SECRET, None)]
    assert len(known.resolve(names, secrets, keyid="e", definitions={})) == len(names) - 2
    assert signing_key(STANDARD_SECRET) != STANDARD_SECRET.encode()
