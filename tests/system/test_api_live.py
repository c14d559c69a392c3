"""The API as `dispatcher serve` serves it: with any number of workers, on its own listener, under a fuzzer."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from dispatcher.api.app import OPERATIONS
from support.admin import open_admin
from support.api import Client
from support.command_line import command_line
from support.receiver import Receiver, answer
from support.serving import Serving, serving
from support.world import until

pytestmark = pytest.mark.system

CONFIG = 2


@dataclass(frozen=True, slots=True)
class Live:
    """A service with its API and a receiver."""

    api: Client
    receiver: Receiver
    process: Serving


@asynccontextmanager
async def live(database: str, *, workers: int = 1) -> AsyncIterator[Live]:
    """Run the service, and give a client of a new tenant."""
    async with (
        open_admin(database) as admin,
        Receiver() as receiver,
        serving(database, workers=workers, api__rate_limit="0") as process,
        aiohttp.ClientSession() as session,
    ):
        await admin.create_tenant("acme")
        key = (await admin.create_key("acme")).key
        address = (await process.says("api.listening"))["address"]
        yield Live(Client(address, admin, "acme", key, session), receiver, process)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_webhook_that_was_created_by_http_is_delivered_to(database: str, workers: int) -> None:
    """From the first call to the log entry: event in, signed request out, its answer in the log."""
    async with live(database, workers=workers) as world:
        api = world.api
        webhook = await api.webhook("A.*", url=f"{world.receiver.url}/hook")

        event_id = await api.event("A.b", {"n": 1})
        (request,) = await world.receiver.wait_for(1, timeout=15)
        path = f"/v1/webhook/{webhook['id']}/delivery-attempts/list?is_delivered=true"
        (entry,) = (await until(lambda: _entries(api, path), why="the log entry"))["deliveryAttempts"]
        explained = await api.ok("GET", f"/v1/events/{event_id}/explain")

        assert request.headers["webhook-id"] == event_id == entry["alertId"]
        assert entry["lastDeliveryAttemptStatus"] == 204
        assert explained["endpoints"][0]["finding"] == "delivered"


async def _entries(api: Client, path: str) -> Mapping[str, Sequence[object]] | None:
    page: Mapping[str, Sequence[object]] = await api.ok("GET", path)
    return page if page["deliveryAttempts"] else None


async def test_a_test_answers_with_the_attempt(database: str) -> None:
    """At once, with what the subscriber said; sending again by hand goes out, too."""
    async with live(database) as world:
        world.receiver.on("/hook", answer(503, body=b"not today"), answer(200))
        webhook = await world.api.webhook("X", url=f"{world.receiver.url}/hook")

        tested = await world.api("POST", f"/v1/webhook/{webhook['id']}/test")
        await world.api.ok("POST", f"/v1/webhook/events/{tested.body['id']}/send")
        first, second = await world.receiver.wait_for(2, timeout=15)

        assert (tested.status, tested.body["type"]) == (200, "test.created")
        assert (tested.body["attempt"]["status"], tested.body["attempt"]["responseBody"]) == (503, "not today")
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_a_taken_port_is_named(database: str) -> None:
    """Address and setting, exit code 2."""
    async with Receiver() as receiver:
        command = command_line(database, OPS__LISTEN="127.0.0.1:0", API__LISTEN=f"127.0.0.1:{receiver.port}")

        end = await asyncio.to_thread(command.process, "serve")

        assert end.code == CONFIG
        assert f"127.0.0.1:{receiver.port}" in end.stderr
        assert "DISPATCHER_API__LISTEN" in end.stderr


async def test_without_its_role_nothing_answers_tenants(database: str) -> None:
    """A process that only delivers opens no port for them."""
    async with serving(database, roles="deliver,notify,maintain") as process:
        assert process.logged("api.listening") == []


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


ENDING = ("deleteWebhook", "disableWebhook")
"""Operations after which others would only be refused: they get webhooks of their own."""


async def test_a_fuzzer_finds_nothing(database: str, tmp_path: Path) -> None:
    """schemathesis, by the served document: no 5xx, no undocumented status, no answer of another shape.

    It has come through to every operation: each has succeeded at least once.
    """
    async with live(database) as world:
        (tmp_path / "schemathesis.toml").write_text(await _configuration(world), encoding="utf-8")

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{world.api.url}/openapi.json", "--no-color"),
            *("--header", "TENANT: acme", "--header", f"API-KEY: {world.api.key}", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--max-time", "90", "--seed", "1"),
            *("--report", "har", "--report-har-path", str(tmp_path / "calls.har")),
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()

        assert process.returncode == 0, said.decode()
        assert world.process.logged("api.failed") == []
        assert f"Tested: {len(OPERATIONS)}" in said.decode()
        assert {operation.name for operation in OPERATIONS} == _succeeded(tmp_path / "calls.har")


def _succeeded(report: Path) -> set[str]:
    """The operations that have answered with 2xx."""
    calls = set()
    for entry in json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]:
        if entry["response"]["status"] // 100 == 2:
            calls.add((entry["request"]["method"], URL(entry["request"]["url"]).path))
    return {
        operation.name
        for operation in OPERATIONS
        for method, path in calls
        if method == operation.method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", operation.path), path)
    }


async def _configuration(world: Live) -> str:
    """Let the fuzzer know ids of things that are there, and use them more often than not."""
    api = world.api
    webhooks = [(await api.webhook(url=f"{world.receiver.url}/hook"))["id"] for _ in range(3)]
    spare = [(await api.webhook("none", url=f"{world.receiver.url}/hook"))["id"] for _ in range(3)]
    events = [await api.event() for _ in range(3)]
    await world.receiver.wait_for(len(webhooks) * len(events), timeout=20)
    log = await api.ok("GET", f"/v1/webhook/{webhooks[0]}/delivery-attempts/list")
    known = {
        "webhook": webhooks,
        "event": events,
        "delivery attempt": [entry["id"] for entry in log["deliveryAttempts"]],
        # so slow that they run until they are cancelled
        "replay": [
            (await api.ok("POST", f"/v1/webhook/{webhook}/replay", {"states": ["delivered"], "rate": 0.01}))["id"]
            for webhook in webhooks
        ],
        "webhook to spare": spare,
    }
    lines = ["request-timeout = 30"]  # a test waits for its attempt
    for thing, ids in known.items():
        lines += [f'[dictionaries."{thing}"]', f"values = {json.dumps(ids)}"]
    for operation in OPERATIONS:
        if operation.thing:
            thing = "webhook to spare" if operation.name in ENDING else operation.thing
            binding = f'{{ "path.id" = {{ dictionary = "{thing}", probability = 0.7 }} }}'
            lines += ["[[operations]]", f'include-operation-id = "{operation.name}"', f"parameters = {binding}"]
    return "\n".join(lines)
