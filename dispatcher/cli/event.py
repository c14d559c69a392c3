"""`dispatcher event`: something that happened, as written to the outbox."""

import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from dispatcher.cli.instants import FORM, instant
from dispatcher.cli.run import Call, command, group
from dispatcher.errors import InvalidInput
from dispatcher.model import EventId

app = group("Send, show and explain events.")

Id = Annotated[UUID, typer.Argument(metavar="ID", help="The event's id, which is the webhook-id on the wire.")]


@command(app, "send")
def send(
    call: Call,
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose event it is.")],
    event_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Its type, like appointment.created.")],
    payload: Annotated[
        str, typer.Option("--payload", metavar="JSON", help="JSON text, sent as written; `-`: stdin, `@PATH`: a file.")
    ],
    event_id: Annotated[UUID | None, typer.Option("--id", metavar="UUID", help="Its id; else one is made.")] = None,
    occurred_at: Annotated[
        str | None, typer.Option("--occurred-at", metavar="TIME", help=f"When it happened, {FORM}.")
    ] = None,
    deliver_at: Annotated[
        str | None, typer.Option("--deliver-at", metavar="TIME", help="Do not deliver before.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="TIME", help="Do not deliver after.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="Skip it if this key was used lately.")
    ] = None,
    ordering_key: Annotated[
        str | None, typer.Option("--ordering-key", metavar="KEY", help="Deliver events with this key one by one.")
    ] = None,
) -> None:
    """Write an event to the outbox, as a producer's insert does.

    Examples:
      dispatcher event send --tenant acme --type appointment.created --payload '{"id": 1}'
      dispatcher event send --tenant acme --type appointment.created --payload @event.json --deliver-at +10m
    """
    from dispatcher.admin import NewEvent

    event = NewEvent(
        tenant=tenant,
        event_type=event_type,
        payload=_read(payload),
        id=None if event_id is None else EventId(event_id),
        occurred_at=instant(occurred_at, "--occurred-at"),
        deliver_at=instant(deliver_at, "--deliver-at"),
        expires_at=instant(expires_at, "--expires-at"),
        idempotency_key=idempotency_key,
        ordering_key=ordering_key,
    )
    sent = call.ask(lambda admin: admin.send_event(event))
    if sent is None:
        call.remark("Skipped: an event of this tenant with this idempotency key was sent lately.")
        if call.as_json:
            call.show({"id": None})
        return
    call.show({"id": str(sent)})


@command(app, "show")
def show(call: Call, event_id: Id) -> None:
    """Show an event."""
    from dispatcher.admin import views

    event = call.ask(lambda admin: admin.event(EventId(event_id)))
    document = views.event_json(event)
    # People get the payload as it was inserted; a parsed one may spell numbers anew.
    call.show(document if call.as_json else document | {"payload": event.payload})


@command(app, "explain")
def explain(call: Call, event_id: Id) -> None:
    """Say what became of an event, endpoint by endpoint, and why."""
    from dispatcher.admin import views

    document = views.explanation_json(call.ask(lambda admin: admin.explain(EventId(event_id))))
    if call.as_json:
        call.show(document)
        return
    call.say(document["summary"])
    for finding in document["endpoints"]:
        call.say("")
        call.say(f"{finding['webhookId']}  {finding['url']}")
        call.say(f"  {finding['finding']}: {finding['why']}")
        for delivery in finding["deliveries"]:
            call.say(f"  delivery {delivery['id']}: {delivery['state']}, {delivery['attemptCount']} attempts")


@command(app, "readmit")
def readmit(call: Call, event_id: Id) -> None:
    """Let an event that the catalogue refused be read again: it is judged anew.

    Mend the catalogue first, or set `[catalog] mode` to warn. `dispatcher event list --refused` shows what was refused.
    """
    from dispatcher.admin import views

    call.show(views.event_json(call.ask(lambda admin: admin.readmit_event(EventId(event_id)))))


@command(app, "list")
def list_some(
    call: Call,
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only of this type.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only those that the catalogue refused.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 50,
) -> None:
    """List events of the last day, the latest first."""
    from dispatcher.admin import views

    events = call.ask(lambda admin: admin.list_events(tenant, event_type=event_type, limit=limit, refused=refused))
    call.show_all(
        [views.event_json(event) for event in events],
        {"id": "ID", "tenant": "TENANT", "type": "TYPE", "insertedDate": "INSERTED"}
        | ({"refusedReason": "REFUSED BECAUSE"} if refused else {}),
        empty="There are no such events.",
    )


def _read(payload: str) -> str:
    """Return the payload's text: given, from stdin (`-`), or from a file (`@PATH`)."""
    try:
        if payload == "-":
            return sys.stdin.buffer.read().decode()
        if payload.startswith("@"):
            return Path(payload[1:]).read_bytes().decode()
    except OSError as error:
        raise InvalidInput(
            f"The payload cannot be read from {payload[1:]}: {error.strerror}. Give the path of a file after the @.",
            field="payload",
        ) from None
    except UnicodeDecodeError:
        raise InvalidInput("The payload is not UTF-8, which JSON has to be. Convert it.", field="payload") from None
    return payload
