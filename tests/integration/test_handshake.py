"""Asking a subscriber first: challenge, consent, wrong signatures; through egress and its rules, or not at all."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin, WebhookChanges, WebhookDraft
from dispatcher.admin.once import Given
from dispatcher.configuration import load
from dispatcher.errors import Conflict, InvalidInput
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool
from support.receiver import Behaviour, Exchange, Receiver, answer, close_silently

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@asynccontextmanager
async def open_admin(database: str, *subnets: str) -> AsyncIterator[Admin]:
    """Open an `Admin` that may ask receivers on loopback."""
    settings = load(None, {"DISPATCHER_EGRESS__ALLOW_SUBNETS": ",".join(subnets or ("127.0.0.0/8",))})
    pool = await open_pool(database, maximum=2)
    policy = AddressPolicy(settings.egress.allow_subnets)
    try:
        admin = Admin(pool, sealer=Sealer(), policy=policy, https_only=False, origin="events.example.com")
        await admin.create_tenant("acme")
        yield admin
    finally:
        await pool.close()


def draft(receiver: Receiver, **fields: Any) -> WebhookDraft:
    """A webhook at a receiver."""
    return WebhookDraft(**{"url": f"{receiver.url}/hook?a=1", "subscriptions": ["*"], "secret": SECRET} | fields)


def verifying(secret: str = SECRET, *, as_json: bool = False, stranger: int = 401) -> Behaviour:
    """A receiver that does it right: it checks the signature, and sends the challenge back."""

    async def behave(exchange: Exchange) -> None:
        try:
            document = Webhook(secret).verify(exchange.request.body, dict(exchange.request.headers))
        except WebhookVerificationError:
            await answer(stranger)(exchange)
            return
        challenge = document["challenge"]
        body = json.dumps({"challenge": challenge}) if as_json else challenge
        await answer(200, body=body.encode())(exchange)

    return behave


@pytest.mark.parametrize("as_json", [False, True])
async def test_who_sends_the_challenge_back_is_created(database: str, as_json: bool) -> None:  # noqa: FBT001 - pytest passes names
    """As text, or as JSON; the request is signed as events will be, and posted to the very URL."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", verifying(as_json=as_json))

        created = await admin.create_webhook(
            "acme", draft(receiver, verification="challenge", signing_profiles=["decoda"], headers={"X-Own": "1"})
        )

        (request,) = receiver.received
    assert created.url == f"{receiver.url}/hook?a=1"
    assert set(json.loads(request.body)) == {"type", "challenge"}
    assert (request.method, request.headers["x-own"]) == ("POST", "1")
    assert "decoda-signature" in request.headers


@pytest.mark.parametrize(
    "behaviour, says",
    [
        pytest.param(answer(200, body=b"hello"), "did not send the challenge back", id="no echo"),
        pytest.param(answer(200, body=b'{"challenge": "x"}'), "did not send the challenge back", id="another echo"),
        pytest.param(answer(204), "did not send the challenge back", id="nothing"),
        pytest.param(answer(404), "status 404", id="not found"),
        pytest.param(answer(302, headers={"Location": "/elsewhere"}), "status 302", id="redirect"),
        pytest.param(close_silently, "did not answer the challenge", id="no answer"),
    ],
)
async def test_who_does_not_is_not(database: str, connection: Any, behaviour: Behaviour, says: str) -> None:
    """The refusal names the field and says what came; nothing is kept."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", behaviour)

        with pytest.raises(InvalidInput, match=says) as refusal:
            await admin.create_webhook("acme", draft(receiver, verification="challenge"))

    assert refusal.value.field == "verification"
    assert await connection.fetchval("select count(*) from dispatcher.endpoints") == 0


async def test_nobody_is_asked_unless_it_is_wished(database: str) -> None:
    """The default is no handshake at all."""
    async with Receiver() as receiver, open_admin(database) as admin:
        await admin.create_webhook("acme", draft(receiver))
        await admin.create_webhook("acme", draft(receiver, verification="none"))

        assert receiver.received == []


async def test_the_rules_about_addresses_hold(database: str) -> None:
    """A handshake reaches no address that events could not reach."""
    async with Receiver() as receiver, open_admin(database, "10.0.0.0/8") as admin:
        with pytest.raises(InvalidInput) as refusal:
            await admin.create_webhook(
                "acme", draft(receiver, verification="challenge", url=f"http://localhost:{receiver.port}/")
            )

        assert receiver.received == []
    assert refusal.value.field in {"verification", "url"}


@pytest.mark.parametrize("stranger", [401, 400, 403])
async def test_who_refuses_a_wrong_signature_passes(database: str, stranger: int) -> None:
    """Any 4xx will do; after the challenge, or alone."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", verifying(stranger=stranger))

        await admin.create_webhook("acme", draft(receiver, verification="challenge", refuses_wrong_signatures=True))
        await admin.create_webhook("acme", draft(receiver, refuses_wrong_signatures=True))

        assert len(receiver.received) == 3


@pytest.mark.parametrize("status", [200, 204, 500, 302])
async def test_who_takes_a_wrong_signature_is_refused(database: str, status: int) -> None:
    """It verifies nothing, or nobody can tell."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", answer(status))

        with pytest.raises(InvalidInput, match=f"wrong signature with status {status}"):
            await admin.create_webhook("acme", draft(receiver, refuses_wrong_signatures=True))


async def test_cloudevents_consent_is_asked_for_and_kept(database: str) -> None:
    """OPTIONS with origin and rate; what is allowed becomes the rate limit, and deliveries carry the origin."""
    async with Receiver() as receiver, open_admin(database) as admin:
        allowed = {"WebHook-Allowed-Origin": "events.example.com", "WebHook-Allowed-Rate": "90"}
        receiver.on("/hook", answer(405, headers=allowed))

        created = await admin.create_webhook("acme", draft(receiver, verification="cloudevents", rate_limit=10))
        changed = await admin.update_webhook(created.id, WebhookChanges(headers={"X-Own": "1"}))

        (request,) = receiver.received
    assert (request.method, request.path, request.body) == ("OPTIONS", "/hook?a=1", b"")
    assert request.headers["webhook-request-origin"] == "events.example.com"
    assert request.headers["webhook-request-rate"] == "600"
    assert created.rate_limit == 1.5
    assert created.headers == {"WebHook-Request-Origin": "events.example.com"}
    assert changed.headers == {"X-Own": "1", "WebHook-Request-Origin": "events.example.com"}


@pytest.mark.parametrize(
    "headers, rate_limit",
    [
        pytest.param({"WebHook-Allowed-Origin": "*"}, 10.0, id="all, no rate"),
        pytest.param({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}, 10.0, id="all, any rate"),
        pytest.param({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "6000"}, 10.0, id="more than asked"),
    ],
)
async def test_consent_to_all(database: str, headers: dict[str, str], rate_limit: float) -> None:
    """An asterisk allows everything; what is asked for is not raised."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", answer(204, headers=headers))

        created = await admin.create_webhook("acme", draft(receiver, verification="cloudevents", rate_limit=10))

    assert created.rate_limit == rate_limit


@pytest.mark.parametrize(
    "headers, says",
    [
        pytest.param({}, "does not allow it", id="no header"),
        pytest.param({"WebHook-Allowed-Origin": "other.example.com"}, "does not allow it", id="another origin"),
        pytest.param({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "many"}, "no number", id="no rate"),
        pytest.param({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "0"}, "no number", id="nothing"),
    ],
)
async def test_no_consent_no_webhook(database: str, headers: dict[str, str], says: str) -> None:
    """Whatever the status: the headers say yes or no."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", answer(200, headers=headers))

        with pytest.raises(InvalidInput, match=says):
            await admin.create_webhook("acme", draft(receiver, verification="cloudevents"))


async def test_other_ways_are_refused(database: str) -> None:
    """By name, before anything is sent."""
    async with Receiver() as receiver, open_admin(database) as admin:
        with pytest.raises(InvalidInput, match="`challenge`") as refusal:
            await admin.create_webhook("acme", draft(receiver, verification="handshake"))

        assert receiver.received == []
    assert refusal.value.field == "verification"


async def test_a_new_url_is_asked_before_the_webhook_moves(database: str) -> None:
    """With the secret in use, as events will be sent; and only if it consents."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", answer(200))
        receiver.on("/new", verifying())
        receiver.on("/deaf", answer(200))
        created = await admin.create_webhook("acme", draft(receiver))
        asking: dict[str, Any] = {"verification": "challenge", "refuses_wrong_signatures": True}

        with pytest.raises(InvalidInput, match="did not send the challenge back"):
            await admin.update_webhook(created.id, WebhookChanges(url=f"{receiver.url}/deaf", **asking))
        stayed = await admin.webhook(created.id)
        moved = await admin.update_webhook(
            created.id, WebhookChanges(url=f"{receiver.url}/new", signing_profiles=["decoda"], **asking)
        )
        again = await admin.update_webhook(created.id, WebhookChanges(verification="challenge"))

        paths = [one.path for one in receiver.received]
    assert paths == ["/deaf", "/new", "/new", "/new"]
    assert "decoda-signature" in receiver.received[1].headers
    assert stayed.url == f"{receiver.url}/hook?a=1"
    assert (moved.url, moved.signing_profiles) == (f"{receiver.url}/new", ("standard", "decoda"))
    assert (again.url, again.signing_profiles) == (moved.url, moved.signing_profiles)


async def test_consent_can_be_asked_for_later(database: str) -> None:
    """What is allowed then holds from then on."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/hook", answer(200, headers={"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "60"}))
        created = await admin.create_webhook("acme", draft(receiver))

        changed = await admin.update_webhook(created.id, WebhookChanges(verification="cloudevents"))

    assert (created.headers, created.rate_limit) == ({}, None)
    assert (changed.headers, changed.rate_limit) == ({"WebHook-Request-Origin": "events.example.com"}, 1.0)


async def test_a_change_meanwhile_is_a_conflict(database: str) -> None:
    """What was agreed to must be what is stored."""
    async with Receiver() as receiver, open_admin(database) as admin:
        receiver.on("/elsewhere", answer(200))
        created = await admin.create_webhook("acme", draft(receiver))

        async def meddle(exchange: Exchange) -> None:
            await admin.update_webhook(created.id, WebhookChanges(url=f"{receiver.url}/elsewhere"))
            await verifying()(exchange)

        receiver.on("/hook", meddle)
        with pytest.raises(Conflict, match="changed while"):
            await admin.update_webhook(created.id, WebhookChanges(description="x", verification="challenge"))
        after = await admin.webhook(created.id)

    assert (after.url, after.description) == (f"{receiver.url}/elsewhere", None)


async def test_nobody_is_asked_while_a_transaction_is_open(database: str) -> None:
    """Not even where somebody makes the creation a part of one."""
    async with Receiver() as receiver, open_admin(database) as admin:

        async def act(joining: Admin) -> Given:
            await joining.create_webhook("acme", draft(receiver, verification="challenge"))
            return Given(200, "{}")

        with pytest.raises(InvalidInput, match="within a transaction"):
            await admin.once("acme", "key", b"print", act)

        assert receiver.received == []


async def test_under_a_key_a_subscriber_is_asked_once(database: str) -> None:
    """Who repeats the call while the first one asks is told so; afterwards the answer is given again."""
    async with Receiver() as receiver, open_admin(database) as admin:
        meanwhile: list[Conflict] = []

        async def create(joining: Admin) -> Given:
            created = await joining.create_webhook("acme", draft(receiver, verification="challenge"))
            return Given(200, str(created.id))

        async def repeat(exchange: Exchange) -> None:
            try:
                await admin.once_outside("acme", "key", b"print", create)
            except Conflict as conflict:
                meanwhile.append(conflict)
            await verifying()(exchange)

        receiver.on("/hook", repeat)
        first = await admin.once_outside("acme", "key", b"print", create)
        again = await admin.once_outside("acme", "key", b"print", create)

        assert len(receiver.received) == len(await admin.list_webhooks("acme")) == 1
    assert (first[1], again) == (False, (first[0], True))
    assert ["being carried out" in str(one) for one in meanwhile] == [True]


async def test_a_key_is_free_again_where_nothing_was_done(database: str, connection: Any) -> None:
    """After a refusal at once, after a crash when its time is over."""
    async with Receiver() as receiver, open_admin(database) as admin:

        async def create(joining: Admin) -> Given:
            await joining.create_webhook("acme", draft(receiver, verification="challenge"))
            return Given(200, "{}")

        receiver.on("/hook", answer(200))
        with pytest.raises(InvalidInput, match="did not send the challenge back"):
            await admin.once_outside("acme", "key", b"print", create)
        receiver.on("/hook", verifying())
        await connection.execute(
            "insert into dispatcher.remembered_answers (tenant, key, fingerprint, status, sealed, given_at) "
            "values ('acme', 'crashed', 'print', 0, '', now() - interval '121 seconds')"
        )
        done = [await admin.once_outside("acme", key, b"print", create) for key in ("key", "crashed")]

    assert done == [(Given(200, "{}"), False)] * 2
