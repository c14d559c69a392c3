"""Payload formats and signing profiles that operators put in: kept, pinned, defaulted, deprecated; and broken ones."""

import json
from datetime import date
from typing import Any

import pytest

from dispatcher.admin import WebhookChanges, WebhookDraft
from dispatcher.admin.views import webhook_json
from dispatcher.catalog.documents import parse
from dispatcher.errors import Conflict, InvalidInput
from dispatcher.formats.definition import Definition, check
from dispatcher.profiles.declared import ProfileDefinition
from support.admin import open_admin
from support.receiver import Receiver
from support.world import finished, insert_event, make_endpoint, until, working

URL = "https://example.com/hook"


def definition(version: str = "1", *, field: dict[str, Any] | None = None, **more: Any) -> Definition:
    """A format with one field."""
    fields = [{"name": "v", "constant": version} if field is None else {"name": "v"} | field]
    return check({"name": "ours", "version": version, "fields": fields} | more, source="ours.toml")


PROFILE = ProfileDefinition(name="ours", content="{body}", headers={"X-Ours": "{signature}"})


def draft(**fields: Any) -> WebhookDraft:
    """A webhook for everything."""
    return WebhookDraft(url=URL, subscriptions=["*"], **fields)


async def test_a_format_is_put_in_pinned_and_shown(database: str) -> None:
    """All that comes with the service is listed beside it, with how many webhooks are pinned to each."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        put = await admin.put_format(definition(description="Ours."))
        await admin.create_webhook("acme", draft(payload_format="ours/1"))
        rows = {row.name: row for row in await admin.list_formats()}

    assert (put.name, put.description, put.built_in, put.deprecated) == ("ours/1", "Ours.", False, None)
    assert list(rows) == ["standard", "raw", "cloudevents", "decoda/1.0", "vsee/1.0", "vsee/2.0", "ours/1"]
    assert (rows["ours/1"].webhooks, rows["standard"].webhooks) == (1, 0)
    assert rows["vsee/1.0"].definition is not None


async def test_what_webhooks_are_pinned_to_does_not_change_under_them(database: str) -> None:
    """A new version goes beside it; to change it in place, somebody must say so; in use, it cannot be dropped."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        await admin.put_format(definition())
        await admin.put_format(definition(field={"constant": "unused: free to change"}))
        webhook = await admin.create_webhook("acme", draft(payload_format="ours/1"))

        with pytest.raises(Conflict, match="1 webhooks are pinned"):
            await admin.put_format(definition(field={"constant": "changed"}))
        await admin.put_format(definition("2"))
        await admin.put_format(definition(field={"constant": "changed"}), replacing=True)
        with pytest.raises(Conflict, match="Move them first"):
            await admin.drop_format("ours/1")
        await admin.update_webhook(webhook.id, WebhookChanges(payload_format="ours/2"))
        await admin.drop_format("ours/1")

        names = [row.name for row in await admin.list_formats() if not row.built_in]
    assert names == ["ours/2"]


@pytest.mark.parametrize("name", ["vsee/2.0", "raw", "standard"])
async def test_names_of_the_service_cannot_be_taken(database: str, name: str) -> None:
    """What comes with it stays what it is."""
    base, _, version = name.partition("/")
    async with open_admin(database) as admin:
        with pytest.raises(Conflict, match="comes with the service"):
            await admin.put_format(definition(version or "1", name=base))


async def test_a_format_that_is_not_there_is_refused(database: str) -> None:
    """At creation, at a change, as a tenant's default; with what was probably meant."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        await admin.put_format(definition())
        webhook = await admin.create_webhook("acme", draft())

        for call in (
            admin.create_webhook("acme", draft(payload_format="ours/3")),
            admin.update_webhook(webhook.id, WebhookChanges(payload_format="ours/3")),
            admin.set_defaults("acme", payload_format="ours/3"),
            admin.payload_format("ours/3"),
            admin.drop_format("ours/3"),
            admin.deprecate_format("ours/3", None),
        ):
            with pytest.raises(InvalidInput, match="Did you mean `ours/1`") as refusal:
                await call
            assert refusal.value.field == "payload_format"


async def test_new_webhooks_are_pinned_to_the_nearest_default(database: str) -> None:
    """A tenant's own, or that of the nearest tenant above; webhooks that are there stay where they are."""
    async with open_admin(database) as admin:
        await admin.create_tenant("group")
        await admin.create_tenant("clinic", parent="group")
        await admin.create_tenant("ward", parent="clinic")
        before = await admin.create_webhook("ward", draft())
        await admin.set_defaults("group", payload_format="vsee/1.0")
        of_group = await admin.create_webhook("ward", draft())
        await admin.set_defaults("clinic", payload_format="vsee/2.0")
        of_clinic = await admin.create_webhook("ward", draft())
        own = await admin.create_webhook("ward", draft(payload_format="raw"))
        cleared = await admin.update_webhook(own.id, WebhookChanges(payload_format=None))
        await admin.set_defaults("clinic", payload_format=None)
        after = await admin.create_webhook("clinic", draft())
        unchanged = await admin.webhook(before.id)

    chosen = [one.payload_format for one in (before, of_group, of_clinic, own, cleared, after, unchanged)]
    assert chosen == ["standard", "vsee/1.0", "vsee/2.0", "raw", "vsee/2.0", "vsee/1.0", "standard"]


async def test_new_webhooks_are_set_up_by_the_nearest_preset(database: str) -> None:
    """A tenant's own or that of one above; what is given or its own preset says, then the tenant's format, come first."""
    async with open_admin(database) as admin:
        await admin.create_tenant("group")
        await admin.create_tenant("clinic", parent="group")
        set_up = await admin.set_defaults("group", preset="decoda")
        plain = await admin.create_webhook("clinic", draft())
        own = await admin.create_webhook("clinic", draft(preset="healthie"))
        bare = await admin.create_webhook("clinic", draft(preset="standard"))
        given = await admin.create_webhook("clinic", draft(retry_schedule="none"))
        await admin.set_defaults("clinic", payload_format="raw")
        formatted = await admin.create_webhook("clinic", draft())
        own_formatted = await admin.create_webhook("clinic", draft(preset="vsee"))
        with pytest.raises(InvalidInput, match="no preset"):
            await admin.set_defaults("clinic", preset="decodda")
        await admin.set_defaults("group", preset=None)
        after = await admin.create_webhook("group", draft())

    assert set_up.preset == "decoda"
    assert (plain.payload_format, plain.signing_profiles) == ("decoda/1.0", ("standard", "decoda"))
    assert (own.payload_format, own.signing_profiles) == ("raw", ("standard", "healthie"))
    assert (bare.payload_format, bare.signing_profiles) == ("standard", ("standard",))
    assert (given.payload_format, given.retry_schedule) == ("decoda/1.0", ())
    assert (formatted.payload_format, formatted.retry_schedule) == ("raw", (1, 5, 15, 60, 300, 900))
    assert (own_formatted.payload_format, own_formatted.retry_schedule) == ("vsee/2.0", None)
    assert (after.payload_format, after.retry_schedule) == ("standard", None)


async def test_a_deprecated_format_says_when_and_goes_on(database: str) -> None:
    """The day is for people; nothing stops."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        put = await admin.put_format(definition(deprecated="2027-01-31"))
        pinned = await admin.create_webhook("acme", draft(payload_format="ours/1"))
        moved = await admin.deprecate_format("ours/1", date(2028, 2, 29))
        lifted = await admin.deprecate_format("ours/1", None)

    assert [row.deprecated for row in (put, moved, lifted)] == [date(2027, 1, 31), date(2028, 2, 29), None]
    assert (pinned.payload_format, pinned.format_deprecated) == ("ours/1", date(2027, 1, 31))


async def test_a_format_of_the_service_can_be_deprecated_too(database: str) -> None:
    """Its webhooks show the day, and it stays where it is."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        pinned = await admin.create_webhook("acme", draft(payload_format="vsee/1.0"))
        moved = await admin.deprecate_format("vsee/1.0", date(2027, 1, 31))
        (shown,) = [row for row in await admin.list_formats() if row.name == "vsee/1.0"]
        after = await admin.webhook(pinned.id)
        lifted = await admin.deprecate_format("vsee/1.0", None)
        with pytest.raises(Conflict, match="stays"):
            await admin.drop_format("raw")

    assert moved.deprecated == shown.deprecated == after.format_deprecated == date(2027, 1, 31)
    assert (shown.webhooks, shown.built_in) == (1, True)
    assert (pinned.format_deprecated, lifted.deprecated) == (None, None)
    assert webhook_json(after)["payloadFormatDeprecatedDate"] == "2027-01-31"
    assert "payloadFormatDeprecatedDate" not in webhook_json(pinned)


async def test_a_format_is_tried_on_the_catalogues_examples(database: str) -> None:
    """A reference to a field that documented payloads do not have is refused, naming type and field."""
    async with open_admin(database) as admin:
        await admin.import_catalog([parse(CATALOGUE, "visits.yaml")])
        with pytest.raises(InvalidInput) as refusal:
            await admin.put_format(definition(field={"payload": "visit.start"}))
        await admin.put_format(definition(field={"payload": "visit.id"}))

    assert "fields[0] (`v`): the payload has no `visit.start`" in str(refusal.value)
    assert "example of `visit.ended`" in str(refusal.value)


CATALOGUE = """
asyncapi: 3.0.0
info: {title: Visits, version: 1.0.0}
channels:
  visit.ended:
    address: visit.ended
    messages:
      body: {payload: {type: object}, x-payload-format: ours/1}
      payload: {payload: {type: object}, examples: [{payload: {visit: {id: 1}}}]}
operations:
  send: {action: send, channel: {$ref: '#/channels/visit.ended'}, messages: [{$ref: '#/channels/visit.ended/messages/body'}]}
"""


async def test_events_of_one_type_go_out_in_every_pinned_version(database: str, connection: Any) -> None:
    """Each endpoint gets the version that it is pinned to; a change in place reaches running workers."""
    async with Receiver() as receiver, open_admin(database) as admin:
        for version in ("1", "2"):
            await admin.put_format(definition(version))
            await make_endpoint(connection, f"{receiver.url}/{version}", payload_format=f"ours/{version}")
        async with working(database):
            await insert_event(connection)
            await finished(connection, 2)
            await admin.put_format(definition(field={"constant": "new"}), replacing=True)
            await until(lambda: _sent_anew(connection, receiver), why="the changed format")

        bodies = {one.path: json.loads(one.body) for one in receiver.received[:2]}
    assert bodies == {"/1": {"v": "1"}, "/2": {"v": "2"}}


async def _sent_anew(connection: Any, receiver: Receiver) -> bool:
    """Send one more event; whether it went out in the changed format yet."""
    await insert_event(connection)
    return any(one.body == b'{"v":"new"}' for one in receiver.received)


@pytest.mark.parametrize(
    "format_name, stored, says",
    [
        pytest.param("ours/9", None, "There is no payload format `ours/9`", id="not there"),
        pytest.param("ours/9", '{"name": "ours"}', "is no payload format. version: Field required.", id="broken"),
        pytest.param(
            "ours/9",
            '{"name":"ours","version":"9","fields":[{"name":"v","payload":"visit.id"}]}',
            "The payload format ours/9 cannot write this event: fields[0] (`v`): the payload has no `visit.id`.",
            id="field that this payload lacks",
        ),
        pytest.param(
            "ours/9",
            '{"name":"ours","version":"9","fields":[{"name":"v","cel":"payload.visit.id"}]}',
            "`payload.visit.id` failed: Key not found in map",
            id="expression that fails",
        ),
    ],
)
async def test_what_cannot_be_written_waits_and_says_why(
    database: str, connection: Any, format_name: str, stored: str | None, says: str
) -> None:
    """The event is kept, its delivery tried again by its schedule, the fault in its attempts; others go on."""
    if stored is not None:
        await connection.execute(
            "insert into dispatcher.payload_formats (name, version, definition) values ('ours', '9', $1)", stored
        )
    async with Receiver() as receiver:
        await make_endpoint(connection, f"{receiver.url}/broken", payload_format=format_name)
        await make_endpoint(connection, f"{receiver.url}/other")
        await insert_event(connection)
        async with working(database, retry__schedule='["1h"]'):
            await finished(connection, 1)
            attempt = await until(
                lambda: connection.fetchrow("select * from dispatcher.attempts where outcome = 'blocked'")
            )

        assert [one.path for one in receiver.received] == ["/other"]
    assert says in attempt["error"]
    assert attempt["verdict"] == "retry"
    assert await connection.fetchval("select count(*) from dispatcher.deliveries where attempts = 1") == 1


async def test_a_profile_is_put_in_and_signs(database: str, connection: Any) -> None:
    """A company's own declaration adds its headers, beside Standard Webhooks'."""
    async with Receiver() as receiver, open_admin(database) as admin:
        await admin.put_profile(PROFILE)
        await make_endpoint(connection, f"{receiver.url}/", signing_profiles=["standard", "ours", "decoda"])
        await insert_event(connection)
        async with working(database):
            (request,) = await receiver.wait_for(1)

    assert request.headers["x-ours"] == request.headers["decoda-signature"]
    assert request.headers["webhook-signature"].startswith("v1,")


async def test_profiles_in_use_do_not_change(database: str) -> None:
    """As formats: in place only if somebody says so; built-in names cannot be taken; in use, none can be dropped."""
    changed = PROFILE.model_copy(update={"encoding": "base64"})
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        await admin.put_profile(PROFILE)
        webhook = await admin.create_webhook("acme", draft(signing_profiles=["ours"], secret="a secret of theirs"))

        with pytest.raises(Conflict, match="sign by `ours`"):
            await admin.put_profile(ProfileDefinition(**changed.model_dump()))
        await admin.put_profile(ProfileDefinition(**changed.model_dump()), replacing=True)
        with pytest.raises(Conflict, match="Change them first"):
            await admin.drop_profile("ours")
        with pytest.raises(Conflict, match="comes with the service"):
            await admin.put_profile(PROFILE.model_copy(update={"name": "stripe"}))
        with pytest.raises(InvalidInput, match="none of Standard Webhooks"):
            await admin.update_webhook(webhook.id, WebhookChanges(signing_profiles=[]))
        await admin.archive_webhook(webhook.id)
        await admin.drop_profile("ours")

        assert [row.name for row in await admin.list_profiles() if not row.built_in] == []
    assert webhook.signing_profiles == ("standard", "ours")


async def test_a_webhook_with_ed25519_has_a_key_of_its_own(database: str) -> None:
    """Shown as its public half; rotated apart from the shared secret; the private half is never among the secrets."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        webhook = await admin.create_webhook("acme", draft(signing_profiles=["v1a"]))
        await admin.rotate_secret(webhook.id)
        after_secret = await admin.public_keys(webhook.id)
        rotated = await admin.rotate_key(webhook.id)
        keys = await admin.public_keys(webhook.id)
        secrets = await admin.webhook_secrets(webhook.id)
        plain = await admin.create_webhook("acme", draft())
        with pytest.raises(InvalidInput, match="v1a"):
            await admin.rotate_key(plain.id)

    assert webhook.public_key is not None
    assert webhook.public_key.startswith("whpk_")
    assert [key.value for key in after_secret] == [webhook.public_key]
    assert [key.value for key in keys] == [rotated, webhook.public_key]
    assert [secret.value.split("_")[0] for secret in secrets] == ["whsec", "whsec"]
    assert plain.public_key is None
