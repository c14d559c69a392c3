"""Shapes of links to a tenant's own pages."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from dispatcher.api.models.base import Given, Shown


class PortalLinkDraft(Given):
    """For how long a link shall hold."""

    expires_in: Annotated[
        float,
        Field(
            alias="expiresInSeconds",
            ge=1,
            le=2592000,
            description="For how many seconds it lets in, at most 30 days. It cannot be called back: make it short.",
        ),
    ] = 3600.0


class PortalLink(Shown):
    """A link to a tenant's own pages."""

    expires_date: Annotated[datetime, Field(description="Until when it lets in, and who is in may stay.")]
    tenant: str
    url: Annotated[str, Field(description="Lets in whoever has it.")]
