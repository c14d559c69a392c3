"""Asks a subscriber, before its webhook is created or moved, whether it wants what will be sent: if somebody wishes so.

Three ways: none; `challenge`, a signed POST with a random text that must come back; `cloudevents`, the OPTIONS request of
CloudEvents' HTTP webhook specification. And beside them a request with a wrong signature, which must be refused: who
accepts that verifies nothing. All go through egress, so that the rules about addresses hold, and while no transaction is
open.
"""

import secrets as entropy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, assert_never
from uuid import uuid4

import orjson

from dispatcher.admin.base import Sends
from dispatcher.admin.definitions import CONSENT_HEADER, Definitions, DefinitionsAdmin
from dispatcher.egress import Request
from dispatcher.envelope import Envelopes
from dispatcher.errors import InvalidInput
from dispatcher.model import (
    Answered,
    Blocked,
    Endpoint,
    EndpointId,
    EndpointState,
    Event,
    EventId,
    Outcome,
    Secret,
    Shard,
    Unreachable,
)
from dispatcher.signature import new_secret
from dispatcher.store.endpoints import EndpointSettings

FIELD: Final = "verification"
TIMEOUT: Final = 10.0
"""Seconds: what people, and the ten or so systems that do this, wait for an answer."""
CHALLENGE_TYPE: Final = "webhook.challenge"
CHALLENGE_BYTES: Final = 24
REFUSALS: Final = range(400, 500)


class Verification(StrEnum):
    """How a subscriber is asked."""

    NONE = "none"
    CHALLENGE = "challenge"
    CLOUDEVENTS = "cloudevents"


@dataclass(frozen=True, slots=True)
class Question:
    """What a subscriber is asked."""

    way: Verification = Verification.NONE
    refuses_wrong: bool = field(default=False, kw_only=True)
    """Ask, too, whether it refuses a request with a wrong signature."""

    @property
    def is_asked(self) -> bool:
        """Whether there is any question."""
        return self.way is not Verification.NONE or self.refuses_wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The webhook that is asked about."""

    url: str
    tenant: str
    question: Question
    rate_limit: float | None


Sign = Callable[[Event, bytes], dict[str, str]]
"""Return the headers of a request as the webhook will get them: content type, own headers, all signatures."""


def verification(text: str | None) -> Verification:
    """Read how somebody wants a subscriber to be asked; raises InvalidInput."""
    try:
        return Verification(text or Verification.NONE)
    except ValueError:
        known = ", ".join(f"`{one}`" for one in Verification)
        raise InvalidInput(f"There is no verification `{str(text)[:100]}`, but {known}.", field=FIELD) from None


async def shake_hands(
    sender: Sends, asked: Asked, *, sign: Sign, missign: Sign, origin: str, now: float
) -> float | None:
    """Ask the subscriber; raises InvalidInput if it does not consent. Returns the rate that it allows, a second, if any.

    `sign` makes the right headers, `missign` those of a secret that the subscriber cannot know.
    """
    allowed = None
    match asked.question.way:
        case Verification.NONE:
            pass
        case Verification.CHALLENGE:
            await _challenge(sender, asked, sign=sign, now=now)
        case Verification.CLOUDEVENTS:
            allowed = await _ask_consent(sender, asked, origin=origin)
        case _:
            assert_never(asked.question.way)
    if asked.question.refuses_wrong:
        await _try_wrong_signature(sender, asked, sign=missign, now=now)
    return allowed


def _challenge_event(asked: Asked, now: float) -> tuple[str, Event, bytes]:
    challenge = entropy.token_urlsafe(CHALLENGE_BYTES)
    payload = orjson.dumps({"type": CHALLENGE_TYPE, "challenge": challenge})
    event = Event(EventId(uuid4()), asked.tenant, CHALLENGE_TYPE, payload.decode(), now, now)
    return challenge, event, payload


async def _challenge(sender: Sends, asked: Asked, *, sign: Sign, now: float) -> None:
    challenge, event, body = _challenge_event(asked, now)
    outcome = await sender.send(Request(asked.url, sign(event, body), body, TIMEOUT))
    answered = _answered(outcome, "the challenge")
    if not 200 <= answered.status <= 299:  # noqa: PLR2004 - the class of success
        raise _refused(f"The subscriber answered the challenge with status {answered.status} instead of 200.")
    if not _echoes(answered.body, challenge):
        raise _refused(
            "The subscriber did not send the challenge back: it must answer with the text of `challenge`, or with "
            '`{"challenge": "…"}`.'
        )


def _echoes(body: bytes, challenge: str) -> bool:
    if body.strip() == challenge.encode():
        return True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return document == challenge or (isinstance(document, dict) and document.get("challenge") == challenge)


async def _ask_consent(sender: Sends, asked: Asked, *, origin: str) -> float | None:
    """Ask as CloudEvents' HTTP webhook specification has it (section 4): whatever the status, the headers say yes or no."""
    headers = {CONSENT_HEADER: origin}
    if asked.rate_limit is not None:
        headers["WebHook-Request-Rate"] = str(max(1, round(asked.rate_limit * 60)))
    outcome = await sender.send(Request(asked.url, headers, b"", TIMEOUT, method="OPTIONS"))
    answered = _answered(outcome, "OPTIONS")
    given = {name.lower(): value.strip() for name, value in answered.headers}
    allowed = given.get("webhook-allowed-origin")
    if allowed is None or allowed.lower() not in ("*", origin.lower()):
        raise _refused(
            f"The subscriber does not allow it: its answer to OPTIONS (status {answered.status}) has no header "
            f"`WebHook-Allowed-Origin` with `*` or `{origin}`."
        )
    rate = given.get("webhook-allowed-rate")
    if rate is None or rate == "*":
        return None
    if not rate.isascii() or not rate.isdigit() or int(rate) < 1:
        raise _refused(f"The subscriber allows a rate that is no number of requests a minute: `{rate[:20]}`.")
    return int(rate) / 60


async def _try_wrong_signature(sender: Sends, asked: Asked, *, sign: Sign, now: float) -> None:
    _, event, body = _challenge_event(asked, now)
    answered = _answered(await sender.send(Request(asked.url, sign(event, body), body, TIMEOUT)), "a wrong signature")
    if answered.status not in REFUSALS:
        raise _refused(
            f"The subscriber answered a request with a wrong signature with status {answered.status}, where 401 or "
            "another 4xx was due. Does it verify signatures?"
        )


def _answered(outcome: Outcome, what: str) -> Answered:
    match outcome:
        case Answered():
            return outcome
        case Unreachable(reason=reason, detail=detail):
            raise _refused(f"The subscriber did not answer {what}: {reason}: {detail}")
        case Blocked(detail=detail):
            raise _refused(f"Nothing was sent: {detail}")
        case _:
            assert_never(outcome)


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, field=FIELD)


class HandshakesAdmin(DefinitionsAdmin):
    """Ask subscribers before they are sent anything."""

    async def _agreed(
        self,
        tenant: str,
        settings: EndpointSettings,
        secrets: Sequence[str],
        question: Question,
    ) -> EndpointSettings:
        """Ask the subscriber of settings that were checked, and return them as it allows; raises InvalidInput."""
        if not question.is_asked:
            return settings
        async with self._pool.acquire() as connection:
            if connection.is_in_transaction():
                raise InvalidInput(
                    "A webhook whose subscriber is asked first cannot be created within a transaction: the question would "
                    "be asked while the database waits.",
                    field=FIELD,
                )
        async with self._reading() as connection:
            definitions = await self._definitions(connection, settings)
        asked = Asked(
            url=settings.url,
            tenant=tenant,
            question=question,
            rate_limit=settings.rate_limit,
        )
        now = self._clock.now()
        # who cannot know this secret cannot take a request that it signed for a right one
        wrong = [new_secret() for _ in secrets]
        sender = self._make_sender()
        try:
            allowed = await shake_hands(
                sender,
                asked,
                sign=_signing(tenant, settings, secrets, definitions, now),
                missign=_signing(tenant, settings, wrong, definitions, now),
                origin=self._origin,
                now=now,
            )
        finally:
            await sender.close()
        if question.way is Verification.CLOUDEVENTS:
            settings = replace(settings, headers={**settings.headers, CONSENT_HEADER: self._origin})
        if allowed is not None and (settings.rate_limit is None or allowed < settings.rate_limit):
            settings = replace(settings, rate_limit=allowed)
        return settings


def _signing(
    tenant: str,
    settings: EndpointSettings,
    secrets: Sequence[str],
    definitions: Definitions,
    now: float,
) -> Sign:
    """Make what signs as the webhook's requests will be signed."""
    endpoint = Endpoint(
        id=EndpointId(uuid4()),
        shard=Shard(0),
        tenant=tenant,
        url=settings.url,
        state=EndpointState.ACTIVE,
        secrets=tuple(Secret(secret, None) for secret in secrets),
        payload_format=settings.payload_format,
        format_definition=definitions.format,
        signing_profiles=settings.signing_profiles,
        profile_definitions=definitions.profiles,
        headers=settings.headers,
    )
    envelopes = Envelopes(endpoint)
    return lambda event, body: envelopes.headers(event, body, now=now)
