"""Prove a recorded attempt: were its signatures right for the body that was sent, and with which keys?

`Admin.signature_check(delivery_id, number, *, tenant=None) -> SignatureCheck(verdict, why, findings)`. The body is made anew and
has the recorded hash (see `bodies`), the head is as it was written, the keys are those whose fingerprints were recorded, as
far as they are still kept. Only `ProofAdmin` reads; the rest is pure. No secret leaves it.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dispatcher.admin.bodies import with_bodies
from dispatcher.admin.deliveries import DeliveriesAdmin
from dispatcher.egress import HIDDEN
from dispatcher.envelope import Envelopes
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import DeliveryId, Endpoint, Event, Secret
from dispatcher.signature import (
    ID_HEADER,
    PRIVATE_PREFIX,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    new_secret,
    public_key_of,
    sign,
    signing_key,
    verify_v1a,
)
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import history
from dispatcher.store.history import AttemptRow, EventRow

_STANDARD = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
_V1, _V1A = "v1,", "v1a,"


class SignatureVerdict(StrEnum):
    """What the check came to."""

    VALID = "valid"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It cannot be told any more, or never could."""


@dataclass(frozen=True, slots=True)
class SignatureFinding:
    """One signature that was sent."""

    header: str
    """In lower case."""
    value: str
    """The signature alone, where a header holds several."""
    verdict: SignatureVerdict
    key: str | None
    """Fingerprint of the key that made it; null: not known, or more than one."""
    why: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """What is proven of an attempt's signatures."""

    verdict: SignatureVerdict
    """Valid if all of them are, wrong if one is."""
    why: str
    """One or two sentences for people."""
    findings: tuple[SignatureFinding, ...] = ()
    """In the order of the headers."""


class ProofAdmin(DeliveriesAdmin):
    """Check signatures."""

    async def signature_check(
        self, delivery_id: DeliveryId, number: int, *, tenant: str | None = None
    ) -> SignatureCheck:
        """Check the signatures of a delivery's attempt, counted from 1. Raises NotFound."""
        async with self._reading() as connection:
            delivery = await self._delivery(connection, delivery_id, tenant)
            attempts = [one for one in await history.attempts(connection, [delivery_id]) if one.number == number]
            if not attempts:
                raise NotFound(f"The delivery {delivery_id} has no attempt {number}, or it is past retention.")
            event = await history.event(connection, delivery.event_id)
            (attempt,) = await with_bodies(connection, attempts, event)
            row = await self._endpoint(connection, delivery.endpoint_id, tenant)
            # with the secrets that had not ended when it was sent
            (endpoint,) = await endpoint_store.load(connection, [row.id], self._sealer, now=attempt.started_at)
        changed = row.updated_at is not None and row.updated_at > attempt.started_at
        return checked(attempt, event, endpoint, is_changed=changed)


def checked(attempt: AttemptRow, event: EventRow | None, endpoint: Endpoint, *, is_changed: bool) -> SignatureCheck:
    """Check an attempt; `is_changed`: somebody changed the endpoint since, so that it may have signed otherwise then."""
    if attempt.request_head is None:
        return SignatureCheck(SignatureVerdict.UNKNOWN, "Nothing was sent, so that nothing was signed.")
    if event is None:
        return SignatureCheck(
            SignatureVerdict.UNKNOWN, "The event is past retention, and what was signed, the body, with it."
        )
    if attempt.request_body is None:
        return SignatureCheck(
            SignatureVerdict.UNKNOWN, "No payload format writes the body any more as it was sent: its hash is another."
        )
    if endpoint.sealed is not None:
        return SignatureCheck(SignatureVerdict.UNKNOWN, endpoint.sealed)
    known = {secret.fingerprint: Secret(secret.value, None) for secret in endpoint.secrets}
    # an old record does not say which keys signed
    names = attempt.signed_with or tuple(known)
    case = _Case(
        headers=_headers(attempt.request_head),
        body=attempt.request_body,
        event=_event(event),
        endpoint=endpoint,
        keys={name: known[name] for name in names if name in known},
        lost=tuple(name for name in names if name not in known) if attempt.signed_with else (),
        is_certain=bool(attempt.signed_with) and not is_changed,
        started=attempt.started_at.timestamp(),
    )
    return _judged((*_standard(case), *_others(case)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that is known of what was signed."""

    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    event: Event
    endpoint: Endpoint
    keys: Mapping[str, Secret]
    """Those that signed, by fingerprint, the newest first."""
    lost: tuple[str, ...]
    """Fingerprints of those that are no longer kept."""
    is_certain: bool
    """What does not fit is wrong, and not only unknown."""
    started: float

    def mismatch(self, header: str, value: str, why: str) -> SignatureFinding:
        """Say that no key made a signature."""
        if self.lost:
            names = ", ".join(self.lost)
            return SignatureFinding(
                header,
                value,
                SignatureVerdict.UNKNOWN,
                None,
                f"It was signed with a key that is no longer kept: {names}.",
            )
        verdict = SignatureVerdict.WRONG if self.is_certain else SignatureVerdict.UNKNOWN
        return SignatureFinding(header, value, verdict, None, why)


def _standard(case: _Case) -> list[SignatureFinding]:
    """Check the Standard Webhooks signatures, each for itself."""
    given = case.headers.get(SIGNATURE_HEADER, "").split()
    message_id, timestamp = case.headers.get(ID_HEADER, ""), case.headers.get(TIMESTAMP_HEADER, "")
    if given and (message_id != str(case.event.id) or not timestamp.isdecimal()):
        why = f"`{ID_HEADER}` or `{TIMESTAMP_HEADER}`, which are signed, are not those of this event."
        return [SignatureFinding(SIGNATURE_HEADER, one, SignatureVerdict.WRONG, None, why) for one in given]
    return [_token(case, token, message_id, int(timestamp)) for token in given]


def _token(case: _Case, token: str, message_id: str, timestamp: int) -> SignatureFinding:
    for name, secret in case.keys.items():
        if _made_by(secret, token, message_id, timestamp, case.body):
            return SignatureFinding(
                SIGNATURE_HEADER, token, SignatureVerdict.VALID, name, f"It is that of the body, with the key {name}."
            )
    certain = replace(case, is_certain=True)  # it needs nothing of the endpoint but its keys
    return (certain if case.keys else case).mismatch(
        SIGNATURE_HEADER, token, "None of the keys that signed makes this of the body."
    )


def _made_by(secret: Secret, token: str, message_id: str, timestamp: int, body: bytes) -> bool:
    is_private = secret.value.startswith(PRIVATE_PREFIX)
    if token.startswith(_V1A):
        return is_private and verify_v1a(public_key_of(secret.value), message_id, timestamp, body, token)
    if is_private or not token.startswith(_V1):
        return False
    expected = sign(signing_key(secret.value), message_id, timestamp, body)
    return hmac.compare_digest(expected.encode(), token.encode())


def _others(case: _Case) -> list[SignatureFinding]:
    """Check the headers of other signing profiles: they are what the profiles make, anew, of the same body."""
    anew = {name: _signed(case, [secret]) for name, secret in case.keys.items()}
    together = _signed(case, list(case.keys.values()))
    stranger = _signed(case, [Secret(new_secret(), None)])
    findings = []
    for header in dict.fromkeys(name for made in together for name in made):
        sent = case.headers.get(header)
        if sent is None or any(made.get(header) == sent for made in stranger):
            continue  # it was not sent, or is no signature: any key makes it
        findings.append(_header(case, header, sent, anew, together))
    return findings


def _header(
    case: _Case,
    header: str,
    sent: str,
    anew: Mapping[str, Sequence[Mapping[str, str]]],
    together: Sequence[Mapping[str, str]],
) -> SignatureFinding:
    if sent == HIDDEN:
        why = "Its value was not recorded: it is called like a credential."
        return SignatureFinding(header, sent, SignatureVerdict.UNKNOWN, None, why)
    for name, made in anew.items():
        if any(one.get(header) == sent for one in made):
            why = f"It is that of the body, with the key {name}."
            return SignatureFinding(header, sent, SignatureVerdict.VALID, name, why)
    if any(one.get(header) == sent for one in together):
        why = f"It is that of the body, with the keys {', '.join(case.keys)}."
        return SignatureFinding(header, sent, SignatureVerdict.VALID, None, why)
    why = "The signing profile makes another of the body."
    if not case.is_certain:
        why = f"{why} The webhook was changed since, so that it may have signed otherwise then."
    return case.mismatch(header, sent, why)


def _signed(case: _Case, secrets: Sequence[Secret]) -> list[dict[str, str]]:
    """Return the headers of the endpoint's profiles with some secrets, for each second in which it may have been signed."""
    if not any(not secret.value.startswith(PRIVATE_PREFIX) for secret in secrets):
        return []
    try:
        envelopes = Envelopes(replace(case.endpoint, secrets=tuple(secrets)))
    except InvalidInput:  # a profile that cannot use such a key, or that is no longer there
        return []
    own = {"content-type", *_STANDARD, *(name.lower() for name in case.endpoint.headers)}
    found = []
    for second in _seconds(case):
        made = envelopes.headers(case.event, case.body, now=second)
        found.append({name.lower(): value.strip() for name, value in made.items() if name.lower() not in own})
    return found


def _seconds(case: _Case) -> list[float]:
    """Return when it was signed: what it says, or the second that was recorded and those around it, by another clock."""
    timestamp = case.headers.get(TIMESTAMP_HEADER, "")
    if timestamp.isdecimal():
        return [float(timestamp)]
    return [float(int(case.started) + offset) for offset in (0, -1, 1, -2, 2)]


def _judged(findings: tuple[SignatureFinding, ...]) -> SignatureCheck:
    if not findings:
        return SignatureCheck(SignatureVerdict.UNKNOWN, "No header that was sent is known to hold a signature.")
    verdicts = {finding.verdict for finding in findings}
    if SignatureVerdict.WRONG in verdicts:
        return SignatureCheck(SignatureVerdict.WRONG, "A signature does not fit the body that was sent.", findings)
    if SignatureVerdict.UNKNOWN in verdicts:
        return SignatureCheck(SignatureVerdict.UNKNOWN, "Not every signature can be checked any more.", findings)
    keys = list(dict.fromkeys(finding.key for finding in findings if finding.key is not None))
    why = f"Every signature fits the body that was sent{f', with the key {keys[0]}' if len(keys) == 1 else ''}."
    return SignatureCheck(SignatureVerdict.VALID, why, findings)


def _headers(head: str) -> dict[str, str]:
    """Read a request's head."""
    lines = head.removesuffix("\r\n").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _event(row: EventRow) -> Event:
    return Event(
        id=row.id,
        tenant=row.tenant,
        event_type=row.event_type,
        payload=row.payload,
        occurred_at=row.occurred_at.timestamp(),
        inserted_at=row.inserted_at.timestamp(),
    )
