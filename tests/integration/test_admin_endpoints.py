"""Webhooks, as people create, change, pause, rotate and archive them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.admin import Admin, CallFilter, LogFilter, WebhookChanges, WebhookDraft, views
from dispatcher.errors import ConfigError, Conflict, InvalidInput, NotFound
from dispatcher.model import EndpointId, EndpointState, Health, Shard
from dispatcher.sealing import Sealer, new_key
from dispatcher.signature import new_secret
from dispatcher.store import endpoints as store
from dispatcher.store.history import DAWN
from support.admin import URL, fan_out, make_webhook, open_admin, send

DRAFT = WebhookDraft(url=URL, subscriptions=["appointment.created", "visit.*"])


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database, with the tenant `acme`."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        yield admin


async def test_create_answers_in_the_published_shape(admin: Admin) -> None:
    """The answer has the contract's fields and no other; the secret is `whsec_` and 32 bytes."""
    made = await admin.create_webhook("acme", DRAFT)

    shown = views.created_webhook_json(made)
    assert list(shown) == ["createdDate", "id", "notificationEmail", "secret", "subscriptions", "updatedDate", "url"]
    assert shown["createdDate"].endswith("Z")
    assert shown["secret"].startswith("whsec_")
    assert len(shown["secret"]) == len("whsec_") + 44
    assert shown["subscriptions"] == ["appointment.created", "visit.*"]
    assert (shown["notificationEmail"], shown["updatedDate"], shown["url"]) == (None, None, URL)


async def test_optional_fields_are_shown_when_given(admin: Admin) -> None:
    """What was given beyond the minimum is answered, in the words of the API."""
    draft = replace(
        DRAFT,
        notification_email="ops@example.com",
        additional_notification_emails=["a@example.com"],
        description="Bookings",
        payload_format="raw",
        headers={"Authorization": "Bearer x"},
        retry_schedule="1s,2s",
        timeout="5s",
        rate_limit=2.5,
        warn_after="1h",
        disable_after="2h",
        metadata={"team": "a"},
    )

    made = await admin.create_webhook("acme", draft)

    shown = views.created_webhook_json(made)
    assert shown["notificationEmail"] == "ops@example.com"
    assert {name: shown[name] for name in list(shown)[7:]} == {
        "additionalNotificationEmails": ["a@example.com"],
        "description": "Bookings",
        "disableAfterSeconds": 7200.0,
        "headers": {"Authorization": "Bearer x"},
        "metadata": {"team": "a"},
        "payloadFormat": "raw",
        "rateLimit": 2.5,
        "retrySchedule": [1.0, 2.0],
        "timeoutSeconds": 5.0,
        "warnAfterSeconds": 3600.0,
    }


async def test_only_create_shows_the_secret(admin: Admin) -> None:
    """Neither show nor list holds the secret; its own call does."""
    made = await admin.create_webhook("acme", DRAFT)

    shown = views.webhook_json(await admin.webhook(made.id))

    assert "secret" not in shown
    assert shown["state"] == "active"
    assert [row.secret for row in await admin.list_webhooks("acme")] == [None]
    assert [row.value for row in await admin.webhook_secrets(made.id)] == [made.secret]
    assert str(made.secret) not in repr(made)


async def test_an_own_secret_is_taken_over(admin: Admin) -> None:
    """Who migrates brings the secret that the receivers know."""
    secret = new_secret()

    made = await admin.create_webhook("acme", replace(DRAFT, secret=secret))

    assert made.secret == secret


async def test_a_bad_field_is_refused_by_name_and_nothing_is_created(admin: Admin) -> None:
    """The checks stand before the database."""
    with pytest.raises(InvalidInput) as refused:
        await admin.create_webhook("acme", replace(DRAFT, url="http://example.com"))

    assert refused.value.field == "url"
    assert await admin.list_webhooks() == []


async def test_a_webhook_needs_a_registered_tenant(admin: Admin) -> None:
    """An unknown tenant is refused with how to register it."""
    with pytest.raises(NotFound, match=r"Did you mean `acme`\?.*tenant create"):
        await admin.create_webhook("acm", DRAFT)


async def test_another_tenants_webhook_does_not_exist(admin: Admin) -> None:
    """Every call with a tenant answers another's webhook exactly as one that does not exist."""
    await admin.create_tenant("other")
    made = await admin.create_webhook("acme", DRAFT)
    nobody = EndpointId(uuid4())

    calls: dict[str, Callable[[EndpointId], Awaitable[Any]]] = {
        "show": lambda one: admin.webhook(one, tenant="other"),
        "update": lambda one: admin.update_webhook(one, WebhookChanges(description="x"), tenant="other"),
        "archive": lambda one: admin.archive_webhook(one, tenant="other"),
        "pause": lambda one: admin.pause_webhook(one, tenant="other"),
        "resume": lambda one: admin.resume_webhook(one, tenant="other"),
        "enable": lambda one: admin.enable_webhook(one, tenant="other"),
        "disable": lambda one: admin.disable_webhook(one, tenant="other"),
        "rotate": lambda one: admin.rotate_secret(one, tenant="other"),
        "secrets": lambda one: admin.webhook_secrets(one, tenant="other"),
        "test": lambda one: admin.test_webhook(one, tenant="other"),
        "deliveries": lambda one: admin.deliveries(webhook=one, tenant="other"),
    }
    for name, call in calls.items():
        messages = []
        for one in (made.id, nobody):
            with pytest.raises(NotFound) as missing:
                await call(one)
            messages.append(str(missing.value).replace(str(one), ""))
        assert messages[0] == messages[1], name
    assert await admin.list_webhooks("other") == []
    assert await admin.webhook(made.id, tenant="acme") == await admin.webhook(made.id)


async def test_an_update_changes_what_is_given_and_nothing_else(admin: Admin, connection: Any) -> None:
    """Fields that are not given stay; null clears; the worker is told."""
    made = await admin.create_webhook("acme", replace(DRAFT, description="old", notification_email="a@example.com"))
    before = await connection.fetchval("select changed_at from dispatcher.endpoints")

    changed = await admin.update_webhook(
        made.id, WebhookChanges(notification_email=None, subscriptions=["visit.*", "x"], retry_schedule="1s")
    )

    assert changed.description == "old"
    assert changed.notification_email is None
    assert changed.subscriptions == ("visit.*", "x")
    assert changed.retry_schedule == (1.0,)
    assert changed.updated_at is not None
    assert changed == await admin.webhook(made.id)
    assert before < await connection.fetchval("select changed_at from dispatcher.endpoints")


async def test_an_update_is_checked_like_a_draft(admin: Admin) -> None:
    """A bad value is refused by field, and nothing is changed."""
    made = await admin.create_webhook("acme", DRAFT)

    with pytest.raises(InvalidInput) as refused:
        await admin.update_webhook(made.id, WebhookChanges(url="http://example.com", description="new"))

    assert refused.value.field == "url"
    assert (await admin.webhook(made.id)).description is None


async def test_what_stays_is_not_judged_again(admin: Admin, connection: Any) -> None:
    """A URL that was allowed once does not stand in the way of another change."""
    made = await admin.create_webhook("acme", DRAFT)
    await connection.execute("update dispatcher.endpoints set url = 'http://127.0.0.1/'")

    changed = await admin.update_webhook(made.id, WebhookChanges(description="new"))

    assert (changed.url, changed.description) == ("http://127.0.0.1/", "new")


async def test_states_follow_what_people_ask(admin: Admin) -> None:
    """Pause, resume, disable and enable lead where they say, and repeating one changes nothing."""
    webhook_id = await make_webhook(admin)

    states = [
        (await action(webhook_id)).state
        for action in (
            admin.pause_webhook,
            admin.pause_webhook,
            admin.resume_webhook,
            admin.resume_webhook,
            admin.disable_webhook,
            admin.disable_webhook,
            admin.enable_webhook,
            admin.enable_webhook,
        )
    ]

    assert states == [
        EndpointState.PAUSED,
        EndpointState.PAUSED,
        EndpointState.ACTIVE,
        EndpointState.ACTIVE,
        EndpointState.DISABLED,
        EndpointState.DISABLED,
        EndpointState.ACTIVE,
        EndpointState.ACTIVE,
    ]


async def test_a_disabled_webhook_is_enabled_not_resumed(admin: Admin) -> None:
    """The refusal says which command helps."""
    webhook_id = await make_webhook(admin)
    await admin.disable_webhook(webhook_id)

    for action in (admin.pause_webhook, admin.resume_webhook):
        with pytest.raises(InvalidInput, match=r"is disabled. Use `dispatcher webhook enable"):
            await action(webhook_id)


async def test_a_paused_webhook_is_resumed_not_enabled(admin: Admin) -> None:
    """The refusal says which command helps."""
    webhook_id = await make_webhook(admin)
    await admin.pause_webhook(webhook_id)

    with pytest.raises(InvalidInput, match=r"is paused. Use `dispatcher webhook resume"):
        await admin.enable_webhook(webhook_id)


async def test_enabling_forgets_bad_health(admin: Admin, connection: Any) -> None:
    """Who enables a webhook gives it a fresh start; when it last failed stays known."""
    webhook_id = await make_webhook(admin)
    bad = Health(failing_since=1.0, warned_at=2.0, cool_until=3.0, hung=True)
    await store.write_health(connection, [store.HealthWrite(webhook_id, bad, last_failure_at=4.0, last_error="reset")])
    await admin.disable_webhook(webhook_id)

    health = (await admin.enable_webhook(webhook_id)).health

    assert (health.failing_since, health.warned_at, health.cool_until, health.hung) == (None, None, None, False)
    assert health.last_error == "reset"


async def test_an_archived_webhook_is_shown_but_not_changed(admin: Admin) -> None:
    """Archiving is for good: it leaves the list, can be looked at, and takes no change."""
    webhook_id = await make_webhook(admin)

    archived = await admin.archive_webhook(webhook_id)

    assert archived.archived_at is not None
    assert archived == await admin.archive_webhook(webhook_id)
    assert await admin.list_webhooks("acme") == []
    assert await admin.list_webhooks("acme", include_archived=True) == [archived]
    assert views.webhook_json(await admin.webhook(webhook_id))["isArchived"] is True
    for action in (admin.pause_webhook, admin.enable_webhook, admin.rotate_secret):
        with pytest.raises(InvalidInput, match="archived"):
            await action(webhook_id)


async def test_archiving_cancels_what_is_pending(admin: Admin, connection: Any) -> None:
    """Pending deliveries of the archived webhook go to history; another's stay."""
    archived, kept = await make_webhook(admin), await make_webhook(admin)
    await send(admin)
    await fan_out(connection)

    await admin.archive_webhook(archived)

    pending = await connection.fetch("select endpoint_id from dispatcher.deliveries")
    finished = await connection.fetch("select endpoint_id, state from dispatcher.finished_deliveries")
    assert [tuple(row) for row in pending] == [(kept,)]
    assert [tuple(row) for row in finished] == [(archived, "cancelled")]


async def test_rotation_keeps_the_old_secret_for_the_overlap(admin: Admin) -> None:
    """The new secret comes first, the old one ends after the overlap."""
    made = await admin.create_webhook("acme", DRAFT)

    new = await admin.rotate_secret(made.id, overlap=3600)

    current, old = await admin.webhook_secrets(made.id)
    assert (current.value, current.expires_at) == (new, None)
    assert old.value == made.secret
    assert old.expires_at is not None
    assert 3590 < (old.expires_at - current.created_at).total_seconds() <= 3600


async def test_an_overlap_of_nothing_ends_every_old_secret(admin: Admin) -> None:
    """A leaked secret is out of use at once, with those before it."""
    made = await admin.create_webhook("acme", DRAFT)
    await admin.rotate_secret(made.id)

    new = await admin.rotate_secret(made.id, overlap=0)

    assert [row.value for row in await admin.webhook_secrets(made.id)] == [new]


async def test_at_most_ten_old_secrets_go_on(admin: Admin) -> None:
    """The eleventh is refused with the way out, which works."""
    made = await admin.create_webhook("acme", DRAFT)
    for _ in range(10):
        await admin.rotate_secret(made.id)

    with pytest.raises(InvalidInput, match="overlap of 0"):
        await admin.rotate_secret(made.id)

    await admin.rotate_secret(made.id, overlap=0)
    assert len(await admin.webhook_secrets(made.id)) == 1


@pytest.mark.parametrize("overlap", [-1.0, 7 * 86400 + 1.0, float("nan")], ids=str)
async def test_an_overlap_is_at_most_seven_days(admin: Admin, overlap: float) -> None:
    """Anything else is refused by field."""
    made = await admin.create_webhook("acme", DRAFT)

    with pytest.raises(InvalidInput, match="0 to 7 days") as refused:
        await admin.rotate_secret(made.id, overlap=overlap)

    assert refused.value.field == "overlap"


async def test_a_secret_in_use_is_no_new_one(admin: Admin) -> None:
    """Rotating to the same secret is a mistake."""
    made = await admin.create_webhook("acme", DRAFT)

    with pytest.raises(InvalidInput, match="in use already"):
        await admin.rotate_secret(made.id, secret=made.secret)


async def test_sealed_secrets_can_be_read_with_their_key_alone(database: str, connection: Any) -> None:
    """With a main key nothing readable is stored; after a change of keys both old and new secrets open."""
    first, second = new_key(), new_key()
    async with open_admin(database, sealer=Sealer([first])) as admin:
        await admin.create_tenant("acme")
        made = await admin.create_webhook("acme", DRAFT)
    stored = await connection.fetchval("select sealed from dispatcher.endpoint_secrets")

    async with open_admin(database, sealer=Sealer([second, first])) as admin:
        new = await admin.rotate_secret(made.id)
        assert [row.value for row in await admin.webhook_secrets(made.id)] == [new, made.secret]
    async with open_admin(database, sealer=Sealer([second])) as admin:
        with pytest.raises(Conflict, match=first.partition(":")[0]):
            await admin.webhook_secrets(made.id)
        with pytest.raises(Conflict, match="overlap of 0"):
            await admin.update_webhook(made.id, WebhookChanges(signing_profiles=("standard", "github")))
    assert str(made.secret).encode() not in stored


async def test_resealing_lets_an_old_main_key_go(database: str) -> None:
    """Plain secrets and those of an older key are sealed with the first one; a second run finds nothing to do."""
    first, second = new_key(), new_key()
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        plain = await admin.create_webhook("acme", DRAFT)
        with pytest.raises(ConfigError, match="no main key"):
            await admin.reseal_secrets()
    async with open_admin(database, sealer=Sealer([first])) as admin:
        old = await admin.create_webhook("acme", DRAFT)

    async with open_admin(database, sealer=Sealer([second, first])) as admin:
        counts = [(await admin.reseal_secrets()).count for _ in range(2)]

    async with open_admin(database, sealer=Sealer([second])) as admin:
        opened = [(await admin.webhook_secrets(one.id))[0].value for one in (plain, old)]
    assert counts == [2, 0]
    assert opened == [plain.secret, old.secret]


async def test_workers_load_endpoints_with_secrets_and_health(admin: Admin, connection: Any) -> None:
    """What a worker loads has the newest secret first, ended ones left out, and health in unix seconds."""
    made = await admin.create_webhook("acme", replace(DRAFT, retry_schedule="1s,2s", headers={"A": "b"}, timeout=3))
    await admin.rotate_secret(made.id, overlap=0)
    middle = await admin.rotate_secret(made.id)
    newest = await admin.rotate_secret(made.id)
    health = Health(failing_since=10.5, cool_until=20.0, hung=True)
    await store.write_health(connection, [store.HealthWrite(made.id, health)])

    (endpoint,) = await store.load(connection, [made.id, EndpointId(uuid4())], Sealer())

    assert [secret.value for secret in endpoint.secrets][:2] == [newest, middle]
    assert len(endpoint.secrets) == 3
    assert endpoint.secrets[0].expires_at is None
    assert endpoint.health == health
    assert (endpoint.retry_schedule, endpoint.headers, endpoint.timeout) == ((1.0, 2.0), {"A": "b"}, 3.0)
    assert (endpoint.tenant, endpoint.shard, endpoint.url, endpoint.archived) == ("acme", made.shard, URL, False)


async def test_health_is_overwritten_and_the_last_times_are_kept(admin: Admin, connection: Any) -> None:
    """A second write sets health anew; when it last succeeded or failed stays unless it is said again."""
    webhook_id = await make_webhook(admin)
    bad = store.HealthWrite(webhook_id, Health(failing_since=1.0), last_failure_at=1.0, last_error="timeout")
    await store.write_health(connection, [bad])

    await store.write_health(connection, [store.HealthWrite(webhook_id, Health(), last_success_at=2.0)])

    health = (await admin.webhook(webhook_id)).health
    assert health.failing_since is None
    assert health.last_error == "timeout"
    assert (health.last_failure_at is None, health.last_success_at is None) == (False, False)


async def test_workers_see_changes_of_their_shards(admin: Admin, connection: Any) -> None:
    """A touched endpoint is seen by the owner of its shard, and by nobody else."""
    one, other = await make_webhook(admin), await make_webhook(admin)
    shard = (await admin.webhook(one)).shard
    seen = dict(await store.changed_since(connection, [shard], DAWN))
    await store.touch(connection, [one])

    changed = await store.changed_since(connection, [shard], max(seen.values()))

    assert set(seen) == {one, other}
    assert [endpoint_id for endpoint_id, _ in changed] == [one]
    assert await store.changed_since(connection, [Shard((shard + 1) % 256)], DAWN) == []


async def test_disabling_says_whether_it_changed_anything(admin: Admin, connection: Any) -> None:
    """Of two workers that disable an endpoint one only is told to write the notice."""
    webhook_id = await make_webhook(admin)

    first = await store.disable(connection, webhook_id, "It answered 410.")
    second = await store.disable(connection, webhook_id, "It answered 410.")

    assert (first, second) == (True, False)
    shown = views.webhook_json(await admin.webhook(webhook_id))
    assert (shown["state"], shown["disabledReason"]) == ("disabled", "It answered 410.")


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["NUL", "half a pair"])
async def test_what_postgres_cannot_store_is_refused(admin: Admin, text: str) -> None:
    """Wherever it is said: in what is to be kept, and in what is looked for."""
    webhook = await make_webhook(admin)
    draft = WebhookDraft(url=URL, subscriptions=["*"], payload_format=text)
    questions = [
        admin.create_webhook("acme", draft),
        admin.update_webhook(webhook, WebhookChanges(signing_profiles=[text])),
        admin.calls(CallFilter(event_type=text)),
        admin.log(webhook, LogFilter(last_error=text)),
        admin.audit_page(target=text),
        admin.create_portal_link(text),
        admin.list_keys(text),
    ]

    answers = await asyncio.gather(*questions, return_exceptions=True)

    assert [type(answer) for answer in answers] == [InvalidInput] * len(questions)
