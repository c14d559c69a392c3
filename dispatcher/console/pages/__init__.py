"""The pages, one module per noun; each ends in `PAGES`."""

from collections.abc import Sequence
from typing import Final

from dispatcher.console.pages import audit, overview
from dispatcher.console.view import Page

PAGES: Final[Sequence[Page]] = (
    *overview.PAGES,
    *audit.PAGES,
)
"""All of them; what tenants have says so itself (`in_portal`)."""
