"""`dispatcher webhook`: endpoints, under the name that tenants know them by."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from dispatcher.cli.run import Call, command, group
from dispatcher.errors import DispatcherError, InvalidInput
from dispatcher.model import EndpointId

if TYPE_CHECKING:
    from dispatcher.admin import Admin, AttemptRow, EndpointRow

app = group("Create, change and test webhooks.")

TEST_WAIT = 20.0
"""Seconds to wait for the attempt of a test: the longest that one may take by default (15 s), and some for the queue."""

Id = Annotated[UUID, typer.Argument(metavar="ID", help="The webhook's id.")]
Email = Annotated[str | None, typer.Option("--notification-email", metavar="EMAIL", help="Whom to tell of failures.")]
MoreEmails = Annotated[
    str | None, typer.Option("--additional-notification-emails", metavar="A,B", help="Whom to tell as well.")
]
Description = Annotated[str | None, typer.Option("--description", help="Say what it is for.")]
PayloadFormat = Annotated[
    str | None,
    typer.Option(
        "--payload-format", metavar="NAME", help="How an event becomes the body; see `dispatcher format list`."
    ),
]
SigningProfiles = Annotated[
    str | None,
    typer.Option("--signing-profiles", metavar="A,B", help="Whose headers to add; see `dispatcher profile list`."),
]
Filter = Annotated[str | None, typer.Option("--filter", metavar="CEL", help="Only events that meet this condition.")]
Headers = Annotated[
    list[str] | None, typer.Option("--headers", metavar="NAME:VALUE", help="Send this header too; can be repeated.")
]
Schedule = Annotated[
    str | None,
    typer.Option("--retry-schedule", metavar="1s,5m,…", help="Delays between attempts, or a preset's name."),
]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="Deadline of an attempt, like 15s.")]
RateLimit = Annotated[float | None, typer.Option("--rate-limit", metavar="N", help="At most N requests per second.")]
WarnAfter = Annotated[
    str | None, typer.Option("--warn-after", metavar="DURATION", help="Warn after so long of nothing but failures.")
]
DisableAfter = Annotated[
    str | None, typer.Option("--disable-after", metavar="DURATION", help="Disable it after so long of failures.")
]
Way = Annotated[
    str | None,
    typer.Option("--verification", metavar="WAY", help="Ask the subscriber first: challenge or cloudevents."),
]
RefusesWrong = Annotated[
    bool, typer.Option("--refuses-wrong-signatures", help="See first that it refuses a wrong signature.")
]
Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="An object of your own, kept with it.")
]


@command(app, "create")
def create(
    call: Call,
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose webhook it is.")],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where to deliver.")],
    subscriptions: Annotated[
        str, typer.Option("--subscriptions", metavar="A,B", help="Event types or patterns: appointment.*, *.")
    ],
    notification_email: Email = None,
    additional_notification_emails: MoreEmails = None,
    description: Description = None,
    payload_format: PayloadFormat = None,
    signing_profiles: SigningProfiles = None,
    event_filter: Filter = None,
    headers: Headers = None,
    retry_schedule: Schedule = None,
    timeout: Timeout = None,
    rate_limit: RateLimit = None,
    warn_after: WarnAfter = None,
    disable_after: DisableAfter = None,
    secret: Annotated[
        str | None, typer.Option("--secret", metavar="WHSEC", help="Keep this secret, from another system.")
    ] = None,
    metadata: Metadata = None,
    include_descendants: Annotated[
        bool, typer.Option("--include-descendants", help="Get the events of the tenants below, too.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Set up as this system did; see `dispatcher preset list`."),
    ] = None,
    verification: Way = None,
    refuses_wrong_signatures: RefusesWrong = False,
) -> None:
    """Create a webhook and show its signing secret.

    Examples:
      dispatcher webhook create --tenant acme --url https://example.com/hooks --subscriptions 'appointment.*'
      dispatcher webhook create --tenant acme --url https://example.com/hooks --subscriptions A,B --json
      dispatcher webhook create --tenant acme --url https://example.com/hooks --subscriptions '*' --preset healthie
    """
    from dispatcher.admin import WebhookDraft, views

    given = _given(
        notification_email=notification_email,
        additional_notification_emails=_list(additional_notification_emails),
        description=description,
        payload_format=payload_format,
        signing_profiles=_list(signing_profiles),
        filter=event_filter,
        headers=_headers(headers),
        retry_schedule=retry_schedule,
        timeout=timeout,
        rate_limit=rate_limit,
        warn_after=warn_after,
        disable_after=disable_after,
        secret=secret,
        metadata=_object(metadata),
        include_descendants=include_descendants or None,
        preset=preset,
        verification=verification,
        refuses_wrong_signatures=refuses_wrong_signatures or None,
    )
    draft = WebhookDraft(url=url, subscriptions=_list(subscriptions) or [], **given)
    call.show(views.created_webhook_json(call.ask(lambda admin: admin.create_webhook(tenant, draft))))


@command(app, "list")
def list_all(
    call: Call,
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")] = None,
    include_archived: Annotated[bool, typer.Option("--include-archived", help="Deleted ones too.")] = False,
) -> None:
    """List webhooks."""
    from dispatcher.admin import views

    webhooks = call.ask(lambda admin: admin.list_webhooks(tenant, include_archived=include_archived))
    call.show_all(
        [views.webhook_json(webhook) for webhook in webhooks],
        {"id": "ID", "tenant": "TENANT", "state": "STATE", "subscriptions": "SUBSCRIPTIONS", "url": "URL"},
        empty="There are no webhooks. Create one: dispatcher webhook create --help",
    )


@command(app, "show")
def show(call: Call, webhook_id: Id) -> None:
    """Show a webhook, its settings and health; not its secret."""
    _act(call, webhook_id, lambda admin, endpoint: admin.webhook(endpoint))


@command(app, "update")
def update(
    call: Call,
    webhook_id: Id,
    *,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Where to deliver.")] = None,
    subscriptions: Annotated[
        str | None, typer.Option("--subscriptions", metavar="A,B", help="Event types or patterns, all of them.")
    ] = None,
    notification_email: Email = None,
    additional_notification_emails: MoreEmails = None,
    description: Description = None,
    payload_format: PayloadFormat = None,
    signing_profiles: SigningProfiles = None,
    event_filter: Filter = None,
    headers: Headers = None,
    retry_schedule: Schedule = None,
    timeout: Timeout = None,
    rate_limit: RateLimit = None,
    warn_after: WarnAfter = None,
    disable_after: DisableAfter = None,
    metadata: Metadata = None,
    include_descendants: Annotated[
        bool | None,
        typer.Option(
            "--include-descendants/--no-include-descendants", help="Get the events of the tenants below, too."
        ),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="OPTION", help="Set this option back to its default; can be repeated."),
    ] = None,
    verification: Way = None,
    refuses_wrong_signatures: RefusesWrong = False,
) -> None:
    """Change some settings of a webhook; what is not given stays.

    A subscriber that is asked first is asked as the webhook would be afterwards: if it does not consent, nothing changes.

    Examples:
      dispatcher webhook update 0199… --url https://example.com/v2/hooks
      dispatcher webhook update 0199… --verification challenge
      dispatcher webhook update 0199… --clear retry-schedule --clear notification-email
    """
    from dispatcher.admin import WebhookChanges

    given = _given(
        url=url,
        subscriptions=_list(subscriptions),
        notification_email=notification_email,
        additional_notification_emails=_list(additional_notification_emails),
        description=description,
        payload_format=payload_format,
        signing_profiles=_list(signing_profiles),
        filter=event_filter,
        headers=_headers(headers),
        retry_schedule=retry_schedule,
        timeout=timeout,
        rate_limit=rate_limit,
        warn_after=warn_after,
        disable_after=disable_after,
        metadata=_object(metadata),
        include_descendants=include_descendants,
        verification=verification,
        refuses_wrong_signatures=refuses_wrong_signatures or None,
    )
    changes = WebhookChanges(**given, **_cleared(clear or (), given))
    _act(call, webhook_id, lambda admin, endpoint: admin.update_webhook(endpoint, changes))


@command(app, "pause")
def pause(call: Call, webhook_id: Id) -> None:
    """Hold deliveries back; events still match and wait."""
    _act(call, webhook_id, lambda admin, endpoint: admin.pause_webhook(endpoint))


@command(app, "resume")
def resume(call: Call, webhook_id: Id) -> None:
    """End a pause; what waits is delivered."""
    _act(call, webhook_id, lambda admin, endpoint: admin.resume_webhook(endpoint))


@command(app, "enable")
def enable(call: Call, webhook_id: Id) -> None:
    """Use a disabled webhook again."""
    _act(call, webhook_id, lambda admin, endpoint: admin.enable_webhook(endpoint))


@command(app, "disable")
def disable(call: Call, webhook_id: Id) -> None:
    """Stop a webhook: nothing matches it, and what is pending dies."""
    _act(call, webhook_id, lambda admin, endpoint: admin.disable_webhook(endpoint))


@command(app, "delete")
def delete(call: Call, webhook_id: Id) -> None:
    """Archive a webhook for good; its history stays."""
    _act(call, webhook_id, lambda admin, endpoint: admin.archive_webhook(endpoint))


@command(app, "test")
def send_test(
    call: Call,
    webhook_id: Id,
    *,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="DURATION", help="Wait so long for the attempt; 20s if not given.")
    ] = None,
) -> None:
    """Send `test.created` to a webhook now, and show how it answered. Exits 1 if the delivery failed.

    Needs a running `dispatcher serve`, which makes the attempt.
    """
    from dispatcher.admin import views
    from dispatcher.retry import parse_duration

    seconds = TEST_WAIT if wait is None else parse_duration(wait, field="--wait")

    async def send(admin: "Admin") -> "AttemptRow":
        delivery = await admin.test_webhook(EndpointId(webhook_id))
        attempt = await admin.wait_for_attempt(delivery, seconds)
        if attempt is None:
            raise DispatcherError(
                f"No attempt was made within {seconds:g} s. It is queued, and goes out as soon as it can: look with "
                f"`dispatcher delivery show {delivery}`. Is `dispatcher serve` running (`dispatcher doctor` tells), and "
                "the webhook neither paused nor busy?"
            )
        return attempt

    attempt = call.ask(send)
    call.show(views.attempt_json(attempt))
    if attempt.verdict != "done":
        raise typer.Exit(1)


@command(app, "rotate-secret")
def rotate_secret(
    call: Call,
    webhook_id: Id,
    *,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="DURATION", help="Sign with the old secret too for so long: 0s to 7d.")
    ] = "24h",
    secret: Annotated[str | None, typer.Option("--secret", metavar="WHSEC", help="Use this new secret.")] = None,
) -> None:
    """Give a webhook a new signing secret, and show it.

    During the overlap every request carries both signatures, so that the receiver can change over when it likes.
    """
    from dispatcher.retry import parse_duration

    seconds = parse_duration(overlap, field="--overlap")
    new = call.ask(
        lambda admin: admin.rotate_secret(EndpointId(webhook_id), secret=secret, overlap=seconds),
    )
    call.show({"id": str(webhook_id), "secret": new})


@command(app, "rotate-key")
def rotate_key(
    call: Call,
    webhook_id: Id,
    *,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="DURATION", help="Sign with the old key too for so long: 0s to 7d.")
    ] = "24h",
) -> None:
    """Give a webhook with the signing profile `v1a` a new ed25519 key, and show its public half."""
    from dispatcher.retry import parse_duration

    seconds = parse_duration(overlap, field="--overlap")
    public_key = call.ask(lambda admin: admin.rotate_key(EndpointId(webhook_id), overlap=seconds))
    call.show({"id": str(webhook_id), "publicKey": public_key})


@command(app, "secret")
def show_secret(call: Call, webhook_id: Id) -> None:
    """Show a webhook's signing secret, and those that are being rotated out."""
    from dispatcher.admin import views

    rows = call.ask(lambda admin: admin.webhook_secrets(EndpointId(webhook_id)))
    secrets = [views.secret_json(row) for row in rows]
    keys = call.ask(lambda admin: admin.public_keys(EndpointId(webhook_id)))
    public = {"publicKeys": [views.public_key_json(key) for key in keys]} if keys else {}
    call.show({"id": str(webhook_id), "secret": secrets[0]["secret"], "secrets": secrets, **public})


def _act(call: Call, webhook_id: UUID, action: "Callable[[Admin, EndpointId], Awaitable[EndpointRow]]") -> None:
    """Do something to one webhook and show how it is now."""
    from dispatcher.admin import views

    call.show(views.webhook_json(call.ask(lambda admin: action(admin, EndpointId(webhook_id)))))


def _given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _list(text: str | None) -> list[str] | None:
    """Split `A,B`."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _headers(given: Sequence[str] | None) -> dict[str, str] | None:
    """Read `NAME:VALUE` options."""
    if not given:
        return None
    headers = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise InvalidInput(
                f"`{text}` is no header. Write the name, a colon and the value, like `X-Clinic: north`.",
                field="headers",
            )
        headers[name.strip()] = value.strip()
    return headers


def _object(text: str | None) -> Mapping[str, Any] | None:
    """Read a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f'The metadata is no JSON: {error}. Write an object, like {{"crm": 17}}.', field="metadata"
        ) from None
    if not isinstance(value, dict):
        raise InvalidInput('The metadata is no JSON object. Write one, like {"crm": 17}.', field="metadata")
    return value


def _cleared(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that stand for the defaults of the options in `names`."""
    empty: dict[str, Any] = {
        "notification_email": None,
        "additional_notification_emails": (),
        "description": None,
        "payload_format": None,
        "signing_profiles": (),
        "filter": None,
        "headers": {},
        "retry_schedule": None,
        "timeout": None,
        "rate_limit": None,
        "warn_after": None,
        "disable_after": None,
        "metadata": {},
    }
    cleared = {}
    for name in names:
        field = name.strip("-").replace("-", "_")
        if field not in empty:
            known = ", ".join(sorted(known.replace("_", "-") for known in empty))
            raise InvalidInput(
                f"`--clear {name}` names nothing that has a default. Write one of: {known}.", field="clear"
            )
        if field in given:
            raise InvalidInput(f"--{field.replace('_', '-')} is both given and cleared. Leave one out.", field="clear")
        cleared[field] = empty[field]
    return cleared
