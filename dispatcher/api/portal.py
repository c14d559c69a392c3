"""Links to a tenant's own pages, for the people of that tenant."""

from typing import Final

from dispatcher.admin import views
from dispatcher.api import models
from dispatcher.api.operations import Answer, Call, Operation, Reply

TAG: Final = "Pages"


async def create(call: Call, body: models.PortalLinkDraft) -> Reply:
    """Make one."""
    link = await call.admin.create_portal_link(call.tenant, expires_in=body.expires_in)
    return Reply(views.portal_link_json(link))


OPERATIONS: Final = (
    Operation(
        name="createPortalLink",
        method="POST",
        path="/v1/portal-link",
        handler=create,
        summary="Make a link to your own pages",
        description=(
            "Opened in a browser it shows this tenant's webhooks, deliveries and replays, and lets change them. Whoever has it "
            "acts for the tenant: make it when somebody asks for it, and send the browser there at once."
        ),
        tag=TAG,
        body=models.PortalLinkDraft,
        answers={200: Answer("The link.", models.PortalLink)},
        example={"expiresInSeconds": 600},
    ),
)
