"""Replays: send many finished deliveries of a webhook again, as a lasting job."""

from typing import Final

from dispatcher.admin import ReplayDraft, views
from dispatcher.api import models
from dispatcher.api.operations import Answer, Call, Operation, Reply
from dispatcher.model import EndpointId, ReplayId

TAG: Final = "Replays"


async def create(call: Call, body: models.ReplayDraft) -> Reply:
    """Create one, or only count."""
    webhook = EndpointId(call.uuid())
    draft = ReplayDraft(
        states=body.states,
        since=body.since,
        until=body.until,
        types=body.types,
        causes=body.causes,
        rate=body.rate,
    )
    if body.dry_run:
        return Reply(views.replay_count_json(await call.admin.count_replay(webhook, draft, tenant=call.tenant)))
    return Reply(views.replay_json(await call.admin.create_replay(webhook, draft, tenant=call.tenant)), status=202)


async def list_some(call: Call, query: models.ReplaysQuery) -> Reply:
    """Show a webhook's replays."""
    webhook = EndpointId(call.uuid())
    found = await call.admin.list_replays(webhook=webhook, tenant=call.tenant, limit=query.limit)
    return Reply([views.replay_json(replay) for replay in found])


async def get(call: Call) -> Reply:
    """Show one."""
    return Reply(views.replay_json(await call.admin.replay(ReplayId(call.uuid()), tenant=call.tenant)))


async def cancel(call: Call) -> Reply:
    """Cancel one."""
    return Reply(views.replay_json(await call.admin.cancel_replay(ReplayId(call.uuid()), tenant=call.tenant)))


OPERATIONS: Final = (
    Operation(
        name="createReplay",
        method="POST",
        path="/v1/webhook/{id}/replay",
        handler=create,
        summary="Send finished deliveries again",
        description=(
            "Each event that a filter lets through gets one new delivery, with its whole retry schedule and the same "
            "`webhook-id`. Left out are events past retention, events that have expired, and events with a later delivery "
            "to this webhook. With `dryRun` nothing is sent, only counted."
        ),
        tag=TAG,
        thing="webhook",
        body=models.ReplayDraft,
        creates=True,
        conflicts=True,
        answers={
            200: Answer("What it would come to.", models.ReplayCount),
            202: Answer("It runs; look at its id for how far it has come.", models.Replay),
        },
        example={"states": ["dead"], "since": "2026-01-31T09:00:00Z", "types": ["appointment.*"], "rate": 50},
    ),
    Operation(
        name="listReplays",
        method="GET",
        path="/v1/webhook/{id}/replay/list",
        handler=list_some,
        summary="List a webhook's replays",
        description="The latest first.",
        tag=TAG,
        thing="webhook",
        query=models.ReplaysQuery,
        answers={200: Answer("The replays.", list[models.Replay])},
    ),
    Operation(
        name="getReplay",
        method="GET",
        path="/v1/replay/{id}",
        handler=get,
        summary="Show how far a replay has come",
        tag=TAG,
        thing="replay",
        answers={200: Answer("The replay.", models.Replay)},
    ),
    Operation(
        name="cancelReplay",
        method="DELETE",
        path="/v1/replay/{id}",
        handler=cancel,
        summary="Cancel a replay",
        description="The deliveries that it has made stay. To cancel it again changes nothing.",
        tag=TAG,
        thing="replay",
        conflicts=True,
        answers={200: Answer("The replay, cancelled.", models.Replay)},
    ),
)
