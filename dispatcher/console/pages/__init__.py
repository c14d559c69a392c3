"""The pages, one module per noun; each ends in `PAGES`."""

from collections.abc import Sequence
from typing import Final

from dispatcher.console.pages import (
    audit,
    catalogue,
    deliveries,
    endpoints,
    events,
    notices,
    overview,
    replays,
    system,
    tail,
)
from dispatcher.console.view import Page

PAGES: Final[Sequence[Page]] = (
    *overview.PAGES,
    *endpoints.PAGES,
    *deliveries.PAGES,
    *tail.PAGES,
    *events.PAGES,
    *replays.PAGES,
    *notices.PAGES,
    *catalogue.PAGES,
    *system.PAGES,
    *audit.PAGES,
)
"""All of them; what tenants have says so itself (`in_portal`)."""
