"""The main key is changed while a worker delivers: nothing stops, and the old key can leave."""

import asyncio
from typing import Any

import pytest
import standardwebhooks

from dispatcher.admin import Admin, Finding
from dispatcher.admin.results import Cause
from dispatcher.errors import Conflict
from dispatcher.metrics import Metrics
from dispatcher.model import EndpointId, EventId
from dispatcher.sealing import Sealer, new_key
from support.admin import open_admin
from support.api import serving_api
from support.command_line import Answer, command_line
from support.receiver import Receiver
from support.world import SECRET, insert_event, make_endpoint, until, working


def listed(*keys: str) -> str:
    """Write keys as the configuration has them."""
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"


async def rotate(database: str, *keys: str, as_json: bool = True) -> Answer:
    """Call `secret rotate-key` with these main keys, as a process: a worker of this one may be writing its log."""
    command = command_line(database, SEALING__KEYS=listed(*keys))
    return await asyncio.to_thread(command.process, "secret", "rotate-key", *(["--json"] if as_json else []))


async def sealed_with(connection: Any) -> set[str | None]:
    """The ids of the main keys that secrets are sealed with."""
    return {row[0] for row in await connection.fetch("select distinct sealing_key from dispatcher.endpoint_secrets")}


async def seal(database: str, key: str) -> None:
    """Seal everything with a first main key."""
    async with open_admin(database, sealer=Sealer([key])) as admin:
        await admin.reseal_secrets()


async def test_the_main_key_changes_while_a_worker_delivers(database: str, connection: Any) -> None:
    """Every event arrives, signed with the same secret, before, meanwhile and after; then the old key is gone."""
    old, new = new_key(), new_key()
    async with Receiver() as receiver:
        for number in range(30):
            await make_endpoint(connection, f"{receiver.url}/{number}", subscriptions=[f"type.{number % 3}"])
        await seal(database, old)
        async with working(database, sealing__keys=listed(old, new)):
            await insert_event(connection, "type.0")
            await receiver.wait_for(10)

            rotating = asyncio.create_task(rotate(database, new, old))
            await insert_event(connection, "type.1")
            answer = await rotating
            await connection.execute("update dispatcher.endpoints set changed_at = clock_timestamp()")
            await insert_event(connection, "type.2")
            await receiver.wait_for(30)
        async with working(database, sealing__keys=listed(new)):
            await insert_event(connection, "type.0")
            requests = await receiver.wait_for(40)

        assert answer.json == {"key": new.partition(":")[0], "resealed": 30}
        assert await sealed_with(connection) == {new.partition(":")[0]}
        for request in requests:
            standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))


async def test_a_missing_main_key_hurts_only_whose_secrets_it_opens(database: str, connection: Any) -> None:
    """The others get their events; theirs wait, with the reason, and go out once the key is there."""
    lost, kept = new_key(), new_key()
    async with Receiver() as receiver:
        hit = await make_endpoint(connection, f"{receiver.url}/hit")
        await seal(database, lost)
        await make_endpoint(connection, f"{receiver.url}/well")
        metrics = Metrics()
        async with (
            working(database, metrics=metrics, sealing__keys=listed(kept)),
            open_admin(database, sealer=Sealer([kept])) as admin,
        ):
            event_id = EventId(await insert_event(connection))
            (first,) = await receiver.wait_for(1)
            found = {one.endpoint_id: one for one in (await admin.explain(event_id)).endpoints}
            await until(lambda: metrics.registry.get_sample_value("dispatcher_endpoints_sealed") == 1, why="the gauge")
        async with working(database, sealing__keys=listed(kept, lost)):
            _, second = await receiver.wait_for(2)

        assert (first.path, second.path) == ("/well", "/hit")
        assert (found[EndpointId(hit)].finding, found[EndpointId(hit)].cause) == (Finding.WAITING, Cause.SEALED)
        assert "sealed with a main key that is not configured" in found[EndpointId(hit)].why
        assert await connection.fetchval("select count(*) from dispatcher.attempts") == 2


async def test_a_lost_main_key_leaves_a_way_out(database: str, connection: Any) -> None:
    """Nothing can sign beside the new secret; with an overlap of 0 the webhook begins anew, and gets what waited."""
    lost, kept = new_key(), new_key()
    async with Receiver() as receiver:
        hit = EndpointId(await make_endpoint(connection, f"{receiver.url}/hit"))
        await seal(database, lost)
        await insert_event(connection)
        async with (
            working(database, sealing__keys=listed(kept)),
            open_admin(database, sealer=Sealer([kept])) as admin,
        ):
            with pytest.raises(Conflict, match="overlap of 0"):
                await admin.rotate_secret(hit)
            secret = await admin.rotate_secret(hit, overlap=0)
            (request,) = await receiver.wait_for(1)

        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))


async def test_a_secret_that_cannot_be_opened_is_not_shown(database: str, connection: Any) -> None:
    """The API and the command line say why, and what to do; they have nothing to be ashamed of."""
    lost, kept = new_key(), new_key()
    key = lost.partition(":")[0]
    async with serving_api(database, sealer=Sealer([lost])) as api:
        webhook = (await api.webhook())["id"]
    async with serving_api(database, sealer=Sealer([kept])) as api:
        shown = await api("GET", f"/v1/webhook/{webhook}/secret")
        changed = await api("PUT", f"/v1/webhook/update/{webhook}", {"signingProfiles": ["standard", "github"]})
        paused = await api("POST", f"/v1/webhook/{webhook}/pause")
    said = await asyncio.to_thread(
        command_line(database, SEALING__KEYS=listed(kept)).process, "webhook", "secret", webhook
    )

    assert (shown.status, changed.status, paused.status) == (409, 409, 200)
    assert f"main key `{key}`" in shown.problem["detail"]
    assert "overlap of 0" in shown.problem["detail"]
    assert (said.code, said.stdout) == (4, "")
    assert f"main key `{key}`" in said.stderr
    assert "Traceback" not in said.stderr


async def test_progress_is_told_on_the_side(database: str, connection: Any) -> None:
    """Batch by batch on stderr; what it came to on stdout; a second call finds nothing to do."""
    endpoint_id = await make_endpoint(connection, "https://example.com/")
    await connection.execute(
        "insert into dispatcher.endpoint_secrets (endpoint_id, sealed) select $1, 'x' from generate_series(1, 1199)",
        endpoint_id,
    )
    key = new_key()

    first, second = await rotate(database, key, as_json=False), await rotate(database, key, as_json=False)

    assert first.stderr.splitlines() == ["500 of 1200 sealed.", "1000 of 1200 sealed.", "1200 of 1200 sealed."]
    assert "1200 were not before" in first.stdout
    assert (second.stderr, "already" in second.stdout) == ("", True)


async def test_an_unknown_main_key_is_named_and_nothing_is_lost(database: str, connection: Any) -> None:
    """Exit code 2; the secrets stay as they are."""
    old, new = new_key(), new_key()
    await make_endpoint(connection, "https://example.com/")
    await seal(database, old)

    answer = await rotate(database, new)

    assert answer.code == 2
    assert old.partition(":")[0] in answer.stderr
    assert await sealed_with(connection) == {old.partition(":")[0]}


async def test_remembered_answers_are_sealed_anew_too(database: str, connection: Any) -> None:
    """An answer under an idempotency key, which may hold a secret, can still be given again."""
    draft = {"url": "https://example.com/", "subscriptions": ["*"]}
    headers = {"Idempotency-Key": "once"}
    async with serving_api(database) as api:
        first = await api.ok("POST", "/v1/webhook/create", draft, headers=headers)
        key = new_key()
        async with open_admin(database, sealer=Sealer([key])) as admin:
            await admin.reseal_secrets()
            kept = await remembered(admin, connection)

    assert first["secret"] in kept
    assert await connection.fetchval("select sealing_key from dispatcher.remembered_answers") == key.partition(":")[0]


async def remembered(admin: Admin, connection: Any) -> str:
    """The one remembered answer, opened."""
    row = await connection.fetchrow("select sealed, sealing_key from dispatcher.remembered_answers")
    return admin._sealer.open(row["sealed"], row["sealing_key"])
