"""What others write, in payloads, URLs, headers, answers, names of types and of tenants, is shown and never runs."""

import json
from collections.abc import Mapping
from typing import Any

import pytest_asyncio

from support.browser import MARKS, Open
from support.console import Console
from support.lively import Lively
from support.receiver import Receiver, answer
from support.world import insert_event, make_endpoint, until

pytestmark = MARKS

HOSTILE = "'\"></pre></script><script>window.owned=1</script><img src=x onerror=window.owned=1>{{7*7}}"

SHOWN = (
    "overview",
    "endpoints",
    "endpoint",
    "edit_endpoint",
    "deliveries",
    "delivery",
    "events",
    "event",
    "tail",
    "replays",
    "audit",
)


@pytest_asyncio.fixture(loop_scope="session")
async def samples(console: Console, connection: Any, receiver: Receiver) -> Mapping[str, str]:
    """Ids of a delivery that failed, and of all around it, each full of hostile text."""
    receiver.on(
        "/%3Cscript%3E", answer(500, headers={"X-Hostile": HOSTILE, "Content-Type": HOSTILE}, body=HOSTILE.encode())
    )
    endpoint = await make_endpoint(
        connection,
        f"{receiver.url}/%3Cscript%3E?q={HOSTILE}",
        tenant=HOSTILE,
        description=HOSTILE,
        headers={"X-Own": HOSTILE},
    )
    event = await insert_event(connection, HOSTILE, json.dumps({HOSTILE: HOSTILE}), tenant=HOSTILE)
    delivery = await until(
        lambda: connection.fetchval("select delivery_id from dispatcher.attempts where event_id = $1", event),
        why="an attempt",
    )
    return {"deliveries": str(delivery), "events": str(event), "endpoints": str(endpoint)}


async def test_hostile_text_never_runs(
    open_screen: Open, signed_in: Any, console: Console, samples: Mapping[str, str]
) -> None:
    """Every page shows it as it is; no script of it runs, and the policy had nothing to stop."""
    screen = await open_screen(state=signed_in)
    pages = Lively(console, {"notices": "", "catalogue": "", "replays": "", **samples}, "").pages()

    for name in SHOWN:
        await screen.go(pages[name])

        assert await screen.page.evaluate("window.owned") is None, name
        assert await screen.page.locator("img[src=x]").count() == 0, name
        assert screen.faults == [], name
    await screen.go(pages["delivery"])
    assert await screen.page.get_by_text("onerror=window.owned=1").count() > 0
