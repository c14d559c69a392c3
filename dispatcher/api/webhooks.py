"""Webhooks: create, show, change, archive, pause, disable, rotate secrets, test."""

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import Any, Final

from dispatcher.admin import Admin, EndpointRow, WebhookChanges, WebhookDraft, views
from dispatcher.api import models
from dispatcher.api.attempts import details_json
from dispatcher.api.operations import Answer, Call, Operation, Reply
from dispatcher.model import EndpointId

TAG: Final = "Webhooks"

TEST_SECONDS: Final = 20.0
"""For the attempt of a test to be made: longer than the default deadline of an attempt."""

ONE: Final = MappingProxyType({200: Answer("The webhook as it is now.", models.Webhook)})


def webhook_id(call: Call) -> EndpointId:
    """Return the id in the path."""
    return EndpointId(call.uuid())


async def create(call: Call, body: models.WebhookDraft) -> Reply:
    """Create one."""
    draft = WebhookDraft(**_given(body))
    return Reply(views.created_webhook_json(await call.admin.create_webhook(call.tenant, draft)))


def _asks_subscriber(body: models.WebhookDraft) -> bool:
    """Whether the URL is asked first."""
    return bool(body.verification or body.refuses_wrong_signatures)


async def list_all(call: Call, query: models.Listing) -> Reply:
    """List them."""
    rows = await call.admin.list_webhooks(call.tenant, include_archived=query.include_archived)
    return Reply([views.webhook_json(row) for row in rows])


async def get(call: Call) -> Reply:
    """Show one."""
    return Reply(views.webhook_json(await call.admin.webhook(webhook_id(call), tenant=call.tenant)))


async def update(call: Call, body: models.WebhookChanges) -> Reply:
    """Change one."""
    changes = WebhookChanges(**_given(body))
    row = await call.admin.update_webhook(webhook_id(call), changes, tenant=call.tenant)
    return Reply(views.webhook_json(row))


def _given(body: models.WebhookOptions) -> dict[str, Any]:
    """Keep what was given: what was not may have another default, or none, in `admin`."""
    return {name: getattr(body, name) for name in body.model_fields_set}


def _acting(act: Callable[[Admin, EndpointId, str], Awaitable[EndpointRow]]) -> Callable[[Call], Awaitable[Reply]]:
    """Make a handler that does something to a webhook and shows it as it is then."""

    async def handle(call: Call) -> Reply:
        return Reply(views.webhook_json(await act(call.admin, webhook_id(call), call.tenant)))

    return handle


async def secrets(call: Call) -> Reply:
    """Show the secrets of one."""
    rows = await call.admin.webhook_secrets(webhook_id(call), tenant=call.tenant)
    shown = [views.secret_json(row) for row in rows]
    keys = [views.public_key_json(row) for row in await call.admin.public_keys(webhook_id(call), tenant=call.tenant)]
    public = {"publicKeys": keys} if keys else {}
    return Reply({"id": str(webhook_id(call)), "secret": shown[0]["secret"], "secrets": shown, **public})


async def rotate(call: Call, body: models.Rotation) -> Reply:
    """Give one a new secret."""
    await call.admin.rotate_secret(webhook_id(call), secret=body.secret, overlap=body.overlap, tenant=call.tenant)
    return await secrets(call)


async def test(call: Call) -> Reply:
    """Send a test to one, and wait for how it goes."""
    delivery_id = await call.admin.test_webhook(webhook_id(call), tenant=call.tenant)
    attempt = await call.admin.wait_for_attempt(delivery_id, TEST_SECONDS)
    logged = await call.admin.logged(delivery_id, tenant=call.tenant)
    return Reply(details_json(logged), status=200 if attempt is not None else 202)


def _action(name: str, summary: str, description: str, act: Any, *, conflicts: bool = True) -> Operation:
    return Operation(
        name=f"{name}Webhook",
        method="POST",
        path=f"/v1/webhook/{{id}}/{name}",
        handler=_acting(act),
        summary=summary,
        description=description,
        tag=TAG,
        thing="webhook",
        answers=ONE,
        conflicts=conflicts,
    )


OPERATIONS: Final = (
    Operation(
        name="createWebhook",
        method="POST",
        path="/v1/webhook/create",
        handler=create,
        summary="Create a webhook",
        description=(
            "The same URL may be registered more than once. The answer holds the secret that proves requests; optional "
            "fields come back if they were given."
        ),
        tag=TAG,
        body=models.WebhookDraft,
        creates=True,
        conflicts=True,
        asks_others=_asks_subscriber,
        answers={200: Answer("The webhook, with its secret.", models.CreatedWebhook)},
        example={"url": "https://example.com/webhooks", "subscriptions": ["PATIENT_CREATED"]},
    ),
    Operation(
        name="listWebhooks",
        method="GET",
        path="/v1/webhook/list",
        handler=list_all,
        summary="List webhooks",
        tag=TAG,
        query=models.Listing,
        answers={200: Answer("All of them, the oldest first.", list[models.Webhook])},
    ),
    Operation(
        name="getWebhook",
        method="GET",
        path="/v1/webhook/get/{id}",
        handler=get,
        summary="Show a webhook",
        description="Archived ones are shown, too.",
        tag=TAG,
        thing="webhook",
        answers=ONE,
    ),
    Operation(
        name="updateWebhook",
        method="PUT",
        path="/v1/webhook/update/{id}",
        handler=update,
        summary="Change a webhook",
        description=(
            "What is left out stays as it is; null clears a field, and so does an empty list or object. With `verification` "
            "or `refusesWrongSignatures` the URL is asked first, as it would be afterwards: if it does not consent, nothing "
            "changes."
        ),
        tag=TAG,
        thing="webhook",
        body=models.WebhookChanges,
        answers=ONE,
        conflicts=True,
        example={"subscriptions": ["PATIENT_CREATED", "PATIENT_UPDATED"]},
    ),
    Operation(
        name="deleteWebhook",
        method="DELETE",
        path="/v1/webhook/delete/{id}",
        handler=_acting(lambda admin, webhook, tenant: admin.archive_webhook(webhook, tenant=tenant)),
        summary="Archive a webhook",
        description="It gets nothing any more, for good; what was pending is cancelled. Its log stays.",
        tag=TAG,
        thing="webhook",
        answers=ONE,
    ),
    _action(
        "pause",
        "Pause a webhook",
        "Events still match and wait.",
        lambda admin, webhook, tenant: admin.pause_webhook(webhook, tenant=tenant),
    ),
    _action(
        "resume",
        "End a pause",
        "What waits is sent.",
        lambda admin, webhook, tenant: admin.resume_webhook(webhook, tenant=tenant),
    ),
    _action(
        "enable",
        "Use a disabled webhook again",
        "Its health is forgotten; events from now on match.",
        lambda admin, webhook, tenant: admin.enable_webhook(webhook, tenant=tenant),
    ),
    _action(
        "disable",
        "Disable a webhook",
        "Nothing matches it; what is pending dies, and can be sent again by hand.",
        lambda admin, webhook, tenant: admin.disable_webhook(webhook, tenant=tenant),
    ),
    Operation(
        name="getSecrets",
        method="GET",
        path="/v1/webhook/{id}/secret",
        handler=secrets,
        summary="Show a webhook's secrets",
        tag=TAG,
        thing="webhook",
        conflicts=True,
        answers={200: Answer("The secrets in use.", models.Secrets)},
    ),
    Operation(
        name="rotateSecret",
        method="POST",
        path="/v1/webhook/{id}/secret/rotate",
        handler=rotate,
        summary="Rotate a webhook's secret",
        description="During the overlap each request carries both signatures, so that you can change over when you like.",
        tag=TAG,
        thing="webhook",
        body=models.Rotation,
        creates=True,
        conflicts=True,
        answers={200: Answer("The secrets in use from now on.", models.Secrets)},
        example={"overlapSeconds": 86400},
    ),
    Operation(
        name="testWebhook",
        method="POST",
        path="/v1/webhook/{id}/test",
        handler=test,
        summary="Test a webhook",
        description=(
            "Sends `test.created` to this webhook alone, subscribed or not, and answers with the attempt; 202 if none was "
            f"made within {TEST_SECONDS:g} seconds."
        ),
        tag=TAG,
        thing="webhook",
        conflicts=True,
        answers={
            200: Answer("The attempt that was made.", models.DeliveryAttemptDetails),
            202: Answer("It waits to be sent.", models.DeliveryAttemptDetails),
        },
    ),
)
