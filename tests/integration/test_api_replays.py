"""Replays over HTTP: create, count, look at, cancel."""

from typing import Any

import pytest

from support.api import Client, serving_api


async def bury(connection: Any, webhook: str, *, status: int = 503) -> None:
    """Let all events that are unread have died at a webhook."""
    await connection.execute(
        """
        with read as (delete from dispatcher.outbox_unread returning *)
        insert into dispatcher.finished_deliveries
          (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason, status)
        select
          nextval('dispatcher.deliveries_id_seq'), $1, event_id, event_at, event_at, clock_timestamp(), shard, 3, false,
          'dead', 'exhausted', $2
        from read
        """,
        webhook,
        status,
    )


async def dead(api: Client, connection: Any, *statuses: int) -> str:
    """A webhook with a dead delivery for each status; its id."""
    webhook = str((await api.webhook())["id"])
    for status in statuses:
        await api.event()
        await bury(connection, webhook, status=status)
    return webhook


async def test_a_replay_is_created_shown_listed_and_cancelled(database: str, connection: Any) -> None:
    """The same thing by every call, with all that was asked for."""
    async with serving_api(database) as api:
        webhook = await dead(api, connection, 503, 404)
        draft = {"causes": ["5xx"], "since": "2026-01-01T00:00:00Z", "types": ["appointment.*"], "rate": 5}

        created = await api("POST", f"/v1/webhook/{webhook}/replay", draft)

        assert created.status == 202
        shown = created.body
        assert (
            shown.items()
            >= {
                "webhookId": webhook,
                "state": "running",
                "states": ["dead"],
                "causes": ["5xx"],
                "types": ["appointment.*"],
                "since": "2026-01-01T00:00:00Z",
                "until": None,
                "rate": 5.0,
                "expected": 1,
                "replayed": 0,
                "finishedDate": None,
            }.items()
        )
        assert await api.ok("GET", f"/v1/replay/{shown['id']}") == shown
        assert await api.ok("GET", f"/v1/webhook/{webhook}/replay/list") == [shown]
        cancelled = await api.ok("DELETE", f"/v1/replay/{shown['id']}")
        assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "By a person.")


async def test_a_dry_run_counts_and_creates_nothing(database: str, connection: Any) -> None:
    """200 with what would be replayed and what not."""
    async with serving_api(database) as api:
        webhook = await dead(api, connection, 503, 404)

        counted = await api("POST", f"/v1/webhook/{webhook}/replay", {"dryRun": True})

        assert counted.status == 200
        skipped = {"expired": 0, "pastRetention": 0, "superseded": 0}
        assert counted.body == {"isExact": True, "replayed": 2, "skipped": skipped}
        assert await api.ok("GET", f"/v1/webhook/{webhook}/replay/list") == []


async def test_a_long_count_stops_and_says_so(database: str, connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run answers within its bound; the job is created with the least that is to be expected."""
    monkeypatch.setattr("dispatcher.admin.replays.PAGE", 2)
    monkeypatch.setattr("dispatcher.admin.replays.MOST_COUNTED", 4)
    async with serving_api(database) as api:
        webhook = await dead(api, connection, *[503] * 5)

        counted = await api.ok("POST", f"/v1/webhook/{webhook}/replay", {"dryRun": True})
        created = await api.ok("POST", f"/v1/webhook/{webhook}/replay", {})

        assert (counted["isExact"], counted["replayed"]) == (False, 4)
        assert (created["isExpectedExact"], created["expected"]) == (False, 4)


async def test_a_wrong_filter_points_to_the_field(database: str) -> None:
    """422 with the place in the body."""
    async with serving_api(database) as api:
        webhook = (await api.webhook())["id"]

        answer = await api("POST", f"/v1/webhook/{webhook}/replay", {"causes": ["timeot"]})

        assert answer.status == 422
        assert answer.problem["errors"][0]["pointer"] == "/causes"
        assert "timeout" in answer.problem["errors"][0]["detail"]


async def test_a_webhook_that_gets_nothing_is_a_conflict(database: str) -> None:
    """409, in words that say what to do first."""
    async with serving_api(database) as api:
        webhook = (await api.webhook())["id"]
        await api.ok("POST", f"/v1/webhook/{webhook}/disable")

        answer = await api("POST", f"/v1/webhook/{webhook}/replay", {})

        assert answer.status == 409
        assert "disabled" in answer.problem["detail"]


async def test_the_same_idempotency_key_replays_once(database: str, connection: Any) -> None:
    """Asked twice, there is one job."""
    async with serving_api(database) as api:
        webhook = await dead(api, connection, 503)
        headers = {"Idempotency-Key": "once"}

        first = await api.ok("POST", f"/v1/webhook/{webhook}/replay", {}, headers=headers)
        second = await api.ok("POST", f"/v1/webhook/{webhook}/replay", {}, headers=headers)

        assert first == second
        assert len(await api.ok("GET", f"/v1/webhook/{webhook}/replay/list")) == 1
