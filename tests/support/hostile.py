"""Text of people who mean harm, in every place where others write, as far as this service lets them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg

from support.console import Console, console_of
from support.lively import Lively, portal_link
from support.mail import mail_server
from support.receiver import Receiver, answer, raw
from support.world import insert_event, make_endpoint, until

MARK: Final = "<owned-x>"
"""Where a page tells the text it begins like this; where a page fails to escape it, there is an element of that name."""

TEXT: Final = (
    f"{MARK}</owned-x>'\"--></textarea></title></pre></code></script><script>alert(1)</script>"
    "<img/src=x/onerror=alert(2)>{{7-7}}${7-7}\\u003cowned-x>"
)
"""Ends attributes, comments, text areas and scripts, and then tries to run; templates of others, too."""

QUERY: Final = TEXT.replace("\\", "")
"""As a URL may hold it."""

FIELD: Final = "<owned-x>'\"</script>"
"""Where less is allowed."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """A console full of such text."""

    world: Lively
    connection: Any

    async def attempted(self) -> None:
        """Let one more attempt be made."""
        await insert_event(self.connection, TEXT, json.dumps({TEXT: TEXT}), tenant=TEXT)


@asynccontextmanager
async def hostile(database: str) -> AsyncIterator[Hostile]:
    """Run a service for a tenant, a producer, a subscriber and a writer of catalogues who all mean harm."""
    connection = await asyncpg.connect(database)
    try:
        async with Receiver() as receiver, mail_server() as mails:
            settings = {"smtp__host": "127.0.0.1", "smtp__port": str(mails.port), "catalog__mode": "enforce"}
            async with console_of(database, delivery__grace="1s", **settings) as console:
                await _describe(console)
                endpoint = await _subscribe(connection, receiver)
                event = await insert_event(
                    connection,
                    TEXT,
                    json.dumps({TEXT: TEXT}),
                    tenant=TEXT,
                    ordering_key=TEXT,
                    idempotency_key=TEXT,
                )
                await insert_event(connection, TEXT, json.dumps({FIELD: TEXT}), tenant=TEXT)
                delivery = await until(partial(_died, connection, endpoint, event), why="a death", timeout=30)
                await until(lambda: mails.mails, why="a mail", timeout=30)
                replay = json.loads(
                    await console.call(
                        *("replay", "create", "--webhook", str(endpoint), "--since", "-1h", "--types", "*"),
                        *("--causes", "5xx"),
                    )
                )
                samples = {
                    "deliveries": str(delivery),
                    "events": str(event),
                    "endpoints": str(endpoint),
                    "replays": replay["id"],
                    "notices": str(await connection.fetchval("select id from dispatcher.mails limit 1")),
                    "catalogue": TEXT,
                }
                yield Hostile(Lively(console, samples, await portal_link(console, TEXT)), connection)
    finally:
        await connection.close()


async def _describe(console: Console) -> None:
    """Import a catalogue."""
    words = {"title": TEXT, "summary": TEXT, "description": TEXT, "tags": [{"name": TEXT}], "x-triggered-by": [TEXT]}
    payload = {
        "type": "object",
        "properties": {TEXT: {"type": "string", "description": TEXT}, FIELD: {"type": "integer"}},
    }
    message = {
        "name": TEXT,
        "title": TEXT,
        "summary": TEXT,
        "payload": payload,
        "examples": [{"payload": {TEXT: TEXT}}],
    }
    document: Mapping[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": TEXT, "version": "1", "description": TEXT},
        "channels": {"hostile": {"address": TEXT, **words, "messages": {"hostile": message}}},
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "asyncapi.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        await console.call("catalog", "import", str(file))


async def _subscribe(connection: Any, receiver: Receiver) -> Any:
    """Register an endpoint with all that it can say of itself, and one that answers what is no HTTP."""
    receiver.on("/%3Cowned-x%3E", answer(500, headers={"X-Hostile": TEXT, "Content-Type": TEXT}, body=TEXT.encode()))
    receiver.on("/raw", raw(f"HTTP/1.1 {TEXT}\r\n\r\n".encode()))
    await make_endpoint(connection, f"{receiver.url}/raw?{QUERY}", tenant=TEXT)
    return await make_endpoint(
        connection,
        f"{receiver.url}/%3Cowned-x%3E?{QUERY}",
        tenant=TEXT,
        description=TEXT,
        headers={"X-Own": TEXT},
        metadata={TEXT: TEXT},
        filter=f"{json.dumps(TEXT)} != ''",
        notification_email="hostile@example.com",
        retry_schedule=[],
    )


async def _died(connection: Any, endpoint: Any, event: Any) -> Any:
    """Return the delivery of an event to an endpoint, once it has ended."""
    return await connection.fetchval(
        "select id from dispatcher.finished_deliveries where endpoint_id = $1 and event_id = $2", endpoint, event
    )
