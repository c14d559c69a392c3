"""`dispatcher listen`: a real server on loopback, real requests, real signatures."""

import hmac
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from dispatcher.cli.listen import Arrival, Listener
from dispatcher.model import Secret
from dispatcher.profiles import known
from dispatcher.profiles.message import Message, Target
from dispatcher.profiles.verifying import Verifier
from dispatcher.signature import Signer, new_secret

NOW = 1_767_225_600
ID = "0199a000-0000-7000-8000-000000000001"
BODY = b'{"type": "appointment.created", "data": {"price": 1.10}}'


@asynccontextmanager
async def listening(**settings: object) -> AsyncIterator[tuple[str, list[Arrival]]]:
    """A listener on a free port, its URL, and what it has shown so far."""
    shown: list[Arrival] = []
    async with ClientSession() as session:
        listener = Listener(show=shown.append, now=lambda: NOW, session=session, **settings)  # type: ignore[arg-type]
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", listener.answer)
        async with TestServer(app) as server:
            yield str(server.make_url("/")), shown


async def post(url: str | URL, body: bytes = BODY, *, secret: str | None = None, **headers: str) -> tuple[int, bytes]:
    """POST a delivery as the service would; its status and answer."""
    signed = {} if secret is None else Signer([Secret(secret, None)]).headers(ID, NOW, body, now=NOW)
    async with ClientSession() as session, session.post(url, data=body, headers=signed | headers) as answer:
        return answer.status, await answer.read()


async def test_shows_a_verified_arrival() -> None:
    """What was signed with the given secret is shown as verified, with id, type and bytes."""
    secret = new_secret()

    async with listening(verifiers=[Verifier("standard", [secret])]) as (url, shown):
        status, _ = await post(url, secret=secret)

    [arrival] = shown
    document = arrival.document()
    assert status == 200
    assert document["verified"] is True
    assert document["webhookId"] == ID
    assert document["type"] == "appointment.created"
    assert document["body"] == BODY.decode()
    assert document["bytes"] == len(BODY)


async def test_refuses_a_foreign_signature() -> None:
    """What was signed with another secret is answered 401, and the reason is shown."""
    async with listening(verifiers=[Verifier("standard", [new_secret()])]) as (url, shown):
        status, _ = await post(url, secret=new_secret())

    assert status == 401
    assert "No signature matches" in str(shown[0].problem)


@pytest.mark.parametrize("name", ["hero", "healthie", "rfc9421", "stripe"])
async def test_verifies_by_the_profile_of_another_system(name: str) -> None:
    """With that system's secret, over the URL that was asked; each profile that is named must hold."""
    body = b'{"event": "appointment.confirmed"}'
    profiles = known.resolve([name], [Secret("your-secret-key", None)], keyid="e", definitions={})

    async with listening(verifiers=[Verifier(name, ["your-secret-key"])]) as (url, shown):
        target = Target.of(f"{url}hooks?practiceId=%C3%A4")
        message = Message(ID, NOW, body, "application/json", "appointment.confirmed", "acme", NOW, target)
        signed = {"Content-Type": "application/json", "webhook-id": ID, **profiles[0].headers(message, now=NOW)}
        status, _ = await post(URL(target.uri, encoded=True), body, **signed)

    assert (status, shown[0].problem, shown[0].event_type) == (200, None, "appointment.confirmed")


async def test_names_the_profile_that_does_not_hold() -> None:
    """Of several."""
    secret = new_secret()

    async with listening(verifiers=[Verifier(name, [secret]) for name in ("standard", "hero")]) as (url, shown):
        status, _ = await post(url, secret=secret)

    assert status == 401
    assert shown[0].problem == "hero: The header X-Herohealth-Timestamp, X-Herohealth-Signature is missing."


async def test_answers_who_asks_first() -> None:
    """A challenge that is verified is sent back, and CloudEvents' question is answered with consent."""
    secret, body = new_secret(), b'{"type": "webhook.challenge", "challenge": "say-this"}'

    async with listening(verifiers=[Verifier("standard", [secret])]) as (url, shown):
        answer = await post(url, body, secret=secret)
        refused = await post(url, body, secret=new_secret())
        async with ClientSession() as session:
            consent = await session.options(url, headers={"WebHook-Request-Origin": "events.example.com"})

    assert (answer, refused) == ((200, b"say-this"), (401, b""))
    assert consent.headers["WebHook-Allowed-Origin"] == "events.example.com"
    assert [arrival.document()["verified"] for arrival in shown] == [True, False, None]


async def test_says_that_nothing_was_checked() -> None:
    """Without a secret an arrival is neither verified nor not."""
    async with listening() as (url, shown):
        await post(url, b"no json")

    assert shown[0].document()["verified"] is None
    assert shown[0].document()["type"] is None


@pytest.mark.parametrize(
    "settings, expected",
    [
        pytest.param({"failures": 2}, [503, 503, 200], id="fail"),
        pytest.param({"failures": 1, "status": 418}, [418, 200, 200], id="fail with status"),
        pytest.param({"status": 204}, [204, 204, 204], id="status"),
    ],
)
async def test_answers_as_told(settings: dict[str, int], expected: list[int]) -> None:
    """The first N requests fail if asked for, the others get the status."""
    async with listening(**settings) as (url, _):
        statuses = [(await post(url))[0] for _ in expected]

    assert statuses == expected


async def test_forwards_bytes_and_headers() -> None:
    """A request is passed on as it came, and the answer passed back."""
    secret = new_secret()
    received: list[tuple[bytes, str | None]] = []

    async def behind(request: web.Request) -> web.Response:
        received.append((await request.read(), request.headers.get("webhook-id")))
        return web.Response(status=202, body=b"taken")

    app = web.Application()
    app.router.add_post("/hooks", behind)
    async with TestServer(app) as server:
        forward = str(server.make_url("/hooks"))
        async with listening(verifiers=[Verifier("standard", [secret])], forward=forward) as (url, shown):
            answer = await post(url, secret=secret)

    assert answer == (202, b"taken")
    assert received == [(BODY, ID)]
    assert shown[0].status == 202


async def test_says_why_forwarding_failed(unused_tcp_port: int) -> None:
    """When nothing listens behind it, the answer is 502 and the reason is shown."""
    async with listening(forward=f"http://127.0.0.1:{unused_tcp_port}/") as (url, shown):
        status, _ = await post(url)

    assert status == 502
    assert "could not be reached" in str(shown[0].note)


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`dispatcher listen` as a process of its own."""
    command = [sys.executable, "-m", "dispatcher", "listen", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def address(running: "subprocess.Popen[str]") -> tuple[str, str]:
    """Where the process listens, and what it says about registering, up to the last line of the settings."""
    assert running.stderr is not None
    banner = ""
    for line in running.stderr:
        banner += line
        if "allow_subnets" in line:
            break
    found = re.search(r"http://\S+", banner)
    assert found is not None, banner
    return found[0], banner


def test_runs_until_interrupted() -> None:
    """The banner tells how to register, arrivals are JSON lines, Ctrl-C ends it with 0 and in silence."""
    with process("--json") as running:
        url, banner = address(running)
        urllib.request.urlopen(urllib.request.Request(url, data=BODY, headers={"webhook-id": ID})).close()
        assert running.stdout is not None
        arrival = json.loads(running.stdout.readline())
        os.kill(running.pid, signal.SIGINT)
        rest, errors = running.communicate(timeout=10)

    assert f"dispatcher webhook create --tenant TENANT --url {url}" in banner
    assert "https_only = false" in banner
    assert arrival["webhookId"] == ID
    assert (running.returncode, rest) == (0, "")
    assert "Traceback" not in errors


def test_prints_bodies_that_cannot_harm_the_terminal() -> None:
    """Control characters in what arrives are shown, not obeyed; numbers keep their spelling."""
    with process() as running:
        url, _ = address(running)
        body = b'{"type": "x\\u001b[31m", "n": 1.10}'
        urllib.request.urlopen(urllib.request.Request(url, data=body)).close()
        os.kill(running.pid, signal.SIGTERM)
        printed, _ = running.communicate(timeout=10)

    assert "\x1b" not in printed
    assert "x\\x1b[31m" in printed
    assert '"n": 1.10' in printed


def test_refuses_a_taken_port() -> None:
    """A port in use is one paragraph with the option to change it."""
    with process() as running:
        url, _ = address(running)
        port = url.rstrip("/").rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "dispatcher", "listen", "--port", port], capture_output=True, text=True, check=False
        )

    assert second.returncode == 4
    assert second.stderr.startswith(f"Error: Cannot listen on 127.0.0.1, port {port}:")
    assert "--port" in second.stderr


@pytest.mark.parametrize(
    "arguments, says",
    [
        pytest.param(["--secret", "hunter2hunter2"], "whsec_", id="no secret of Standard Webhooks"),
        pytest.param(["--secret", "hunter2hunter2"], "--profile NAME", id="and what to do"),
        pytest.param(["--secret", "hunter2", "--profile", "hero"], "8 to 256", id="too short"),
        pytest.param(["--secret", "hunter2hunter2", "--profile", "heor"], "Did you mean `hero`", id="profile"),
        pytest.param(["--secret", "hunter2hunter2", "--profile", "no.toml"], "cannot be read", id="file"),
        pytest.param(["--profile", "hero"], "--secret", id="no secret at all"),
    ],
)
def test_refuses_what_cannot_verify(arguments: list[str], says: str) -> None:
    """A secret or a profile that can be none is refused at once, and the secret not repeated."""
    tried = subprocess.run(
        [sys.executable, "-m", "dispatcher", "listen", *arguments], capture_output=True, text=True, check=False
    )

    assert tried.returncode == 4
    assert says in tried.stderr
    assert "hunter2" not in tried.stderr


def test_verifies_by_a_definition_in_a_file(tmp_path: Path) -> None:
    """One's own profile, as `profile put` takes it."""
    file = tmp_path / "ours.toml"
    file.write_text('name = "ours"\ncontent = "{body}"\nheaders = { X-Ours = "{signature}" }\n')
    signature = hmac.new(b"your-secret-key", BODY, "sha256").hexdigest()

    with process("--json", "--secret", "your-secret-key", "--profile", str(file)) as running:
        url, banner = address(running)
        urllib.request.urlopen(urllib.request.Request(url, data=BODY, headers={"X-Ours": signature})).close()
        assert running.stdout is not None
        arrival = json.loads(running.stdout.readline())

    assert arrival["verified"] is True
    assert "not checked" not in banner
