"""Secrets and signatures, judged by the specification's vectors and by two libraries that others wrote."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret
from dispatcher.signature import SignatureMismatch, Signer, key_of, new_secret, sign, verify

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIMESTAMP = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OLD = new_secret(lambda count: b"o" * count)
NEW = new_secret(lambda count: b"n" * count)
ROTATION_ENDS = 1_000.0
BODY = '{"data":"é"}'.encode()


def signed(secrets: list[Secret], *, now: float | None = None, body: bytes = BODY) -> dict[str, str]:
    """Sign `body` at this very moment, which is what the foreign verifiers compare with."""
    return Signer(secrets).headers(
        "0198b2f0-0000-7000-8000-000000000000",
        int(datetime.now(UTC).timestamp()),
        body,
        now=datetime.now(UTC).timestamp() if now is None else now,
    )


def accepts(secret: str, headers: dict[str, str], body: bytes = BODY) -> bool:
    """Ask both foreign verifiers, which must agree."""
    verdicts = set()
    for verifier, refusals in (
        (standardwebhooks.Webhook(secret), standardwebhooks.WebhookVerificationError),
        (svix.Webhook(secret), svix.WebhookVerificationError),
    ):
        try:
            verifier.verify(body, headers)
        except refusals:
            verdicts.add(False)
        else:
            verdicts.add(True)
    (verdict,) = verdicts
    return verdict


def test_new_secret_is_the_prefix_and_32_bytes() -> None:
    """A secret is `whsec_` and the padded base64 of 32 random bytes."""
    secret = new_secret()

    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert secret != new_secret()


def test_new_secret_takes_its_randomness_from_outside() -> None:
    """The bytes of a secret are those of the source that was given."""
    secret = new_secret(bytes)

    assert key_of(secret) == bytes(32)


@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
def test_key_of_needs_no_padding(length: int) -> None:
    """A secret that lost its `=` on the way decodes to the same key."""
    secret = "whsec_" + base64.b64encode(b"k" * length).decode()

    assert key_of(secret) == key_of(secret.rstrip("=")) == b"k" * length


@pytest.mark.parametrize(
    "secret, reason",
    [
        pytest.param("", "does not start with", id="empty"),
        pytest.param(base64.b64encode(bytes(32)).decode(), "does not start with", id="no prefix"),
        pytest.param("whsec_", "decodes to 0 bytes", id="prefix alone"),
        pytest.param("whsec_" + base64.b64encode(bytes(23)).decode(), "decodes to 23 bytes", id="short"),
        pytest.param("whsec_" + base64.b64encode(bytes(65)).decode(), "decodes to 65 bytes", id="long"),
        pytest.param("whsec_" + "-_" * 20, "is not base64", id="URL-safe alphabet"),
        pytest.param("whsec_ " + "AAAA" * 10, "is not base64", id="white space"),
        pytest.param("whsec_" + "ä" * 40, "is not base64", id="not ASCII"),
        pytest.param("whsec_" + "A" * 41, "is not base64", id="impossible length"),
    ],
)
def test_key_of_refuses_what_is_no_secret(secret: str, reason: str) -> None:
    """A secret that cannot be used is refused by name, without being repeated, with the way to mend it."""
    with pytest.raises(InvalidInput, match=reason) as refusal:
        key_of(secret)

    assert refusal.value.field == "secret"
    assert "24 to 64 random bytes" in str(refusal.value)
    assert len(secret) < 8 or secret not in str(refusal.value)


def test_sign_matches_the_published_vector() -> None:
    """The specification's own example comes out."""
    assert sign(key_of(VECTOR_SECRET), VECTOR_ID, VECTOR_TIMESTAMP, VECTOR_BODY) == VECTOR_SIGNATURE


def test_signer_matches_the_published_vector() -> None:
    """The three headers carry id, timestamp and the signature of the specification's example."""
    headers = Signer([Secret(VECTOR_SECRET, None)]).headers(VECTOR_ID, VECTOR_TIMESTAMP, VECTOR_BODY, now=0.0)

    assert headers == {
        "webhook-id": VECTOR_ID,
        "webhook-timestamp": str(VECTOR_TIMESTAMP),
        "webhook-signature": VECTOR_SIGNATURE,
    }


def test_signer_needs_a_lasting_secret() -> None:
    """An endpoint without a current secret is a fault of ours, found before anything is sent."""
    with pytest.raises(ValueError, match="always has a secret"):
        Signer([Secret(OLD, 1.0)])


@pytest.mark.parametrize(
    "secrets, now, accepted",
    [
        pytest.param([Secret(OLD, None)], 0.0, {OLD}, id="before rotation"),
        pytest.param([Secret(NEW, None), Secret(OLD, ROTATION_ENDS)], 999.9, {NEW, OLD}, id="during rotation"),
        pytest.param([Secret(NEW, None), Secret(OLD, ROTATION_ENDS)], 1_000.0, {NEW}, id="after rotation"),
    ],
)
def test_foreign_verifiers_accept_what_is_in_force(secrets: list[Secret], now: float, accepted: set[str]) -> None:
    """`standardwebhooks` and `svix` accept exactly the secrets in force before, during and after a rotation."""
    headers = signed(secrets, now=now)

    assert {secret for secret in (OLD, NEW) if accepts(secret, headers)} == accepted


def test_rotation_puts_the_new_signature_first() -> None:
    """During a rotation the new key's signature is first, the old one's last, one space between."""
    headers = signed([Secret(NEW, None), Secret(OLD, ROTATION_ENDS)], now=0.0)

    timestamp = int(headers["webhook-timestamp"])
    expected = [sign(key_of(secret), headers["webhook-id"], timestamp, BODY) for secret in (NEW, OLD)]
    assert headers["webhook-signature"] == " ".join(expected)


@given(body=st.text(min_size=1).map(str.encode), place=st.integers(min_value=0), change=st.integers(1, 255))
def test_a_changed_byte_is_refused(body: bytes, place: int, change: int) -> None:
    """Whichever byte of the body changes, and how, no verifier accepts it."""
    headers = signed([Secret(NEW, None)], body=body)
    changed = bytearray(body)
    changed[place % len(body)] ^= change

    with pytest.raises(SignatureMismatch, match="No signature matches"):
        verify([NEW], headers, bytes(changed), now=float(headers["webhook-timestamp"]))
    try:
        changed.decode()
    except UnicodeDecodeError:
        return  # The foreign verifiers take text only.
    assert not accepts(NEW, headers, bytes(changed))


@given(body=st.binary(), key=st.binary(min_size=24, max_size=64), timestamp=st.integers(0, 10**11))
def test_verify_accepts_what_was_signed(body: bytes, key: bytes, timestamp: int) -> None:
    """Any body signed with any key at any time is accepted at that time."""
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = Signer([Secret(secret, None)]).headers("id", timestamp, body, now=0.0)

    verify([OLD, secret], headers, body, now=float(timestamp))


def test_verify_reads_foreign_signatures() -> None:
    """What the reference library signs is accepted, with header names in any case and unknown versions beside it."""
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(OLD).sign("msg_1", now, BODY.decode())
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": f"v1a,AAAA nonsense {signature}",
    }

    verify([OLD], headers, BODY, now=now.timestamp())


@pytest.mark.parametrize(
    "change, reason",
    [
        pytest.param({"webhook-id": "another"}, "No signature matches", id="other id"),
        pytest.param({"webhook-id": ""}, "webhook-id is missing", id="no id"),
        pytest.param({"webhook-timestamp": "1001"}, "No signature matches", id="other timestamp"),
        pytest.param({"webhook-timestamp": "1_0"}, "not a number of unix seconds", id="no number"),
        pytest.param({"webhook-timestamp": "9" * 5000}, "not a number of unix seconds", id="absurd number"),
        pytest.param({"webhook-timestamp": "699"}, "signed 301 s ago", id="too old"),
        pytest.param({"webhook-timestamp": "1301"}, "signed 301 s ahead", id="from the future"),
        pytest.param({"webhook-signature": "v2,abc"}, "holds no v1 signature", id="unknown version"),
        pytest.param({"webhook-signature": "v1,ä"}, "No signature matches", id="not ASCII"),
        pytest.param({"webhook-signature": ""}, "webhook-signature is missing", id="no signature"),
    ],
)
def test_verify_says_what_is_wrong(change: dict[str, str], reason: str) -> None:
    """A message that cannot be trusted is refused with the reason."""
    headers = Signer([Secret(NEW, None)]).headers("id", 1_000, BODY, now=0.0) | change

    with pytest.raises(SignatureMismatch, match=reason):
        verify([NEW], headers, BODY, now=1_000.0)


@pytest.mark.parametrize("now", [700.0, 1_300.0])
def test_verify_tolerates_five_minutes(now: float) -> None:
    """Clocks may differ by exactly five minutes in either direction."""
    headers = Signer([Secret(NEW, None)]).headers("id", 1_000, BODY, now=0.0)

    verify([NEW], headers, BODY, now=now)
