"""The machinery: workers, shards, tables, migrations, and what the doctor finds."""

from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import web

from dispatcher.console.view import Page, View
from dispatcher.doctor import Check

Examine = Callable[[], AsyncIterator[Check]]
"""Makes all checks, one after the other; some take seconds."""

EXAMINE: Final = web.AppKey[Examine]("examine")

COLUMNS: Final = 32
"""Of the picture of the 256 shards."""


async def show(view: View) -> web.StreamResponse:
    """Show workers, shards, tables and migrations."""
    system = await view.admin.system()
    owners = {worker.id: number for number, worker in enumerate(system.workers)}
    cells = [
        (shard.shard, shard.shard % COLUMNS, shard.shard // COLUMNS, owners.get(shard.owner) if shard.owner else None)
        for shard in system.shards
    ]
    return view.render("system.html", system=system, cells=cells)


async def examine(view: View) -> web.StreamResponse:
    """Show what the doctor finds."""
    checks = [check async for check in view.request.app[EXAMINE]()]
    return view.render("doctor.html", checks=checks)


PAGES: Final = (Page("system", "/system", show),)

EXAMINATION: Final = (Page("doctor", "/system/doctor", examine),)
"""Where somebody can examine the installation."""
