"""`dispatcher replay`: send finished deliveries of a webhook again, as a lasting job."""

from typing import Annotated
from uuid import UUID

import typer

from dispatcher.cli.instants import FORM, instant
from dispatcher.cli.run import Call, command, group
from dispatcher.model import EndpointId, ReplayId

app = group("Send finished deliveries of a webhook again: many, by filters, at a rate.")

Id = Annotated[UUID, typer.Argument(metavar="ID", help="The replay's id.")]


@command(app, "create")
def create(
    call: Call,
    *,
    webhook: Annotated[UUID, typer.Option("--webhook", metavar="ID", help="The webhook to send to.")],
    states: Annotated[
        str, typer.Option("--states", metavar="A,B", help="Deliveries in these states: dead, cancelled, delivered.")
    ] = "dead",
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help=f"Of events inserted from then on, {FORM}.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Of events inserted before then.")
    ] = None,
    types: Annotated[
        str | None, typer.Option("--types", metavar="A,B", help="Of these event types or patterns; else of all.")
    ] = None,
    causes: Annotated[
        str | None,
        typer.Option("--causes", metavar="A,B", help="What they ended with: timeout, 503, 5xx, endpoint_disabled, …"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", help="So many a second; else as many as it takes.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
) -> None:
    """Send again what has ended, each event once: it gets a new delivery with its whole retry schedule.

    Left out are events past retention, events that have expired, and those with a later delivery to the webhook. The
    job lasts: it goes on after a restart, while `dispatcher serve` runs.

    Examples:
      dispatcher replay create --webhook 0199… --since -2h --dry-run
      dispatcher replay create --webhook 0199… --states dead,delivered --types 'appointment.*' --rate 50
    """
    from dispatcher.admin import ReplayDraft, views

    draft = ReplayDraft(
        states=_split(states),
        since=instant(since, "--since"),
        until=instant(until, "--until"),
        types=_split(types),
        causes=_split(causes),
        rate=rate,
    )
    endpoint = EndpointId(webhook)
    if dry_run:
        call.show(views.replay_count_json(call.ask(lambda admin: admin.count_replay(endpoint, draft))))
    else:
        call.show(views.replay_json(call.ask(lambda admin: admin.create_replay(endpoint, draft))))


@command(app, "list")
def list_some(
    call: Call,
    *,
    webhook: Annotated[UUID | None, typer.Option("--webhook", metavar="ID", help="Only this webhook's.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 50,
) -> None:
    """List replays, the latest first."""
    from dispatcher.admin import views

    endpoint = None if webhook is None else EndpointId(webhook)
    found = call.ask(lambda admin: admin.list_replays(webhook=endpoint, tenant=tenant, limit=limit))
    call.show_all(
        [views.replay_json(replay) for replay in found],
        {
            "id": "ID",
            "state": "STATE",
            "tenant": "TENANT",
            "webhookId": "WEBHOOK ID",
            "states": "OF",
            "expected": "EXPECTED",
            "replayed": "REPLAYED",
            "createdDate": "CREATED",
        },
        empty="There are no such replays.",
    )


@command(app, "show")
def show(call: Call, replay_id: Id) -> None:
    """Show a replay with how far it has come."""
    from dispatcher.admin import views

    call.show(views.replay_json(call.ask(lambda admin: admin.replay(ReplayId(replay_id)))))


@command(app, "cancel")
def cancel(call: Call, replay_id: Id) -> None:
    """End a replay; the deliveries that it has made stay."""
    from dispatcher.admin import views

    call.show(views.replay_json(call.ask(lambda admin: admin.cancel_replay(ReplayId(replay_id)))))


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
