"""Receive deliveries on this machine: verify each signature, print what arrives, and pass it on if asked to.

What a subscriber would build, for trying things out; not a part of the service.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.run import Call, command, wait_for
from dispatcher.errors import InvalidInput
from dispatcher.indenting import indented

if TYPE_CHECKING:  # aiohttp takes longer to import than `--help` may
    from aiohttp import ClientSession, web

    from dispatcher.profiles.verifying import Verifier

DEFAULT_PORT = 8090
"""Beside the service's own two, 8080 and 8081."""

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes. Far over any sensible event; only there so that a mistake cannot fill the memory."""

FORWARD_SECONDS = 30.0
"""Longer than the service waits by default (15 s), so that its time-outs show here as they are."""

FAILING_STATUS = 503

BAD_GATEWAY = 502

CONSENT_HEADER = "WebHook-Request-Origin"
ALLOWED_HEADER = "WebHook-Allowed-Origin"
"""Of CloudEvents' HTTP webhook specification, section 4: who asks, and who may send."""

HOP_BY_HOP = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers of one connection (RFC 9110, 7.6.1), never passed on."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, as it came and as it was answered."""

    received_at: datetime
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    problem: str | None
    """Why the signature does not hold; null: it does, or it was not checked."""
    checked: bool
    status: int
    note: str | None = None
    """What went wrong while it was passed on."""

    @property
    def webhook_id(self) -> str | None:
        """The event's id, if the header is there."""
        return self.headers.get("webhook-id")

    @property
    def event_type(self) -> str | None:
        """What the body says, where the payload format or the system that people come from writes it."""
        match self.parsed:
            case {"type": str(name)} | {"event_type": str(name)} | {"event": str(name)}:
                return name
        return None

    @property
    def parsed(self) -> Any:
        """The body as JSON; null if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:  # UnicodeDecodeError too
            return None

    def document(self) -> dict[str, Any]:
        """Write it for a program; the body's bytes stay as they came."""
        return {
            "receivedDate": self.received_at.isoformat().replace("+00:00", "Z"),
            "method": self.method,
            "path": self.path,
            "webhookId": self.webhook_id,
            "type": self.event_type,
            "verified": self.problem is None if self.checked else None,
            "problem": self.problem,
            "status": self.status,
            "note": self.note,
            "bytes": len(self.body),
            "headers": dict(self.headers),
            "body": self.body.decode("utf-8", errors="backslashreplace"),
        }


@dataclass(slots=True)
class Listener:
    """Answer requests: verified ones with `status`, the first `failures` with an error, unverified ones with 401.

    `show` is called with every arrival. With `forward` the answer is that of the URL behind it.
    """

    show: Callable[[Arrival], None]
    now: Callable[[], float]
    verifiers: "Sequence[Verifier]" = ()
    """All must accept a request; none: nothing is checked."""
    status: int = 200
    failures: int = 0
    forward: str | None = None
    session: "ClientSession | None" = None
    _seen: int = field(default=0, init=False)

    async def answer(self, request: "web.Request") -> "web.StreamResponse":
        """Handle one request of any method and path."""
        from aiohttp import web

        body = await request.read()
        origin = request.headers.get(CONSENT_HEADER) if request.method == "OPTIONS" else None
        # a question for consent is never signed
        problem = self._problem(request, body) if origin is None else None
        self._seen += 1
        note, answer = None, _echo(body)
        if problem is not None:
            status = web.HTTPUnauthorized.status_code
        elif self._seen <= self.failures:
            status = self.status if self.status >= web.HTTPBadRequest.status_code else FAILING_STATUS
        elif self.forward is not None:
            status, answer, note = await self._pass_on(request, body)
        else:
            # With --fail, --status says how the first ones fail.
            status = 200 if self.failures else self.status
        arrival = Arrival(
            received_at=datetime.fromtimestamp(self.now(), UTC),
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            problem=problem,
            checked=bool(self.verifiers) and origin is None,
            status=status,
            note=note,
        )
        self.show(arrival)
        allowed = {} if origin is None else {ALLOWED_HEADER: origin}
        return web.Response(status=status, body=answer if problem is None else b"", headers=allowed)

    def _problem(self, request: "web.Request", body: bytes) -> str | None:
        from dispatcher.profiles.message import Target
        from dispatcher.profiles.verifying import Arrived
        from dispatcher.signature import SignatureMismatch

        if not self.verifiers:
            return None
        target = Target.of(f"{request.scheme}://{request.host}{request.raw_path}")
        arrived = Arrived(target, {name.lower(): value for name, value in request.headers.items()}, body)
        now = self.now()
        for verifier in self.verifiers:
            try:
                verifier.verify(arrived, now=now)
            except SignatureMismatch as mismatch:
                return f"{verifier.name}: {mismatch}" if len(self.verifiers) > 1 else str(mismatch)
        return None

    async def _pass_on(self, request: "web.Request", body: bytes) -> tuple[int, bytes, str | None]:
        from aiohttp import ClientError

        assert self.session is not None
        assert self.forward is not None
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        try:
            async with self.session.request(
                request.method, self.forward, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status, await answer.read(), None
        except (ClientError, OSError, TimeoutError) as error:
            return BAD_GATEWAY, b"", f"{self.forward} could not be reached: {str(error) or type(error).__name__}"


def _echo(body: bytes) -> bytes:
    """Return what a challenge wants to have back; nothing for other requests."""
    try:
        match json.loads(body):
            case {"type": "webhook.challenge", "challenge": str(challenge)}:
                return challenge.encode("utf-8", "replace")
    except ValueError:
        pass
    return b""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "listen")(listen)


def listen(
    call: Call,
    *,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="SECRET", help="Verify with this secret; repeat it during a rotation."),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="Verify by this signing profile, or that of a .toml or .json file, instead of Standard Webhooks; "
            "can be repeated.",
        ),
    ] = None,
    forward: Annotated[
        str | None, typer.Option("--forward", metavar="URL", help="Pass verified requests on, and answer as it does.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Listen on this port; 0: any.")] = DEFAULT_PORT,
    status: Annotated[int, typer.Option("--status", min=200, max=599, help="Answer with this status.")] = 200,
    fail: Annotated[int, typer.Option("--fail", min=0, metavar="N", help="Let the first N requests fail.")] = 0,
) -> None:
    """Receive deliveries on this machine, verify and print them.

    Examples:
      dispatcher listen --secret whsec_…
      dispatcher listen --secret your-secret-key --profile hero
      dispatcher listen --port 9000 --fail 3
      dispatcher listen --secret whsec_… --forward http://localhost:3000/webhooks
    """
    from dispatcher.clock import Clock

    if forward is not None and not forward.startswith(("http://", "https://")):
        raise InvalidInput(f"`{forward}` is no URL to forward to. Write it whole, like http://localhost:3000/webhooks.")
    listener = Listener(
        show=_print_json if call.as_json else _print_text,
        now=Clock().now,
        verifiers=_verifiers(secret or (), profile or ()),
        status=status,
        failures=fail,
        forward=forward,
    )
    wait_for(_serve(listener, host=host, port=port))


def _verifiers(secrets: Sequence[str], profiles: Sequence[str]) -> "list[Verifier]":
    """Make ready what verifies; refuses a mistyped secret or profile now, not at the first delivery."""
    from dispatcher.cli.format import text_of
    from dispatcher.profiles.declared import read
    from dispatcher.profiles.known import STANDARD
    from dispatcher.profiles.verifying import Verifier
    from dispatcher.signature import is_standard

    if not secrets:
        if profiles:
            raise InvalidInput("A signing profile verifies with a secret: give it with --secret.", field="secret")
        return []
    if not profiles and not all(map(is_standard, secrets)):
        raise InvalidInput(
            "The secret is none of Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes. One of another system is "
            "verified by that system's signing profile: add --profile NAME.",
            field="secret",
        )
    files = {name: Path(name) for name in profiles if name.endswith((".toml", ".json"))}
    return [
        Verifier(read(text_of(files[name]), source=files[name].name) if name in files else name, secrets)
        for name in profiles or (STANDARD,)
    ]


async def _serve(listener: Listener, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    web_app = web.Application(client_max_size=LARGEST_BODY)
    web_app.router.add_route("*", "/{path:.*}", listener.answer)
    runner = web.AppRunner(web_app, access_log=None, handle_signals=False, shutdown_timeout=1)
    async with contextlib.AsyncExitStack() as stack:
        listener.session = await stack.enter_async_context(
            # auto_decompress would change the bytes that are passed back.
            ClientSession(
                timeout=ClientTimeout(total=FORWARD_SECONDS), cookie_jar=DummyCookieJar(), auto_decompress=False
            )
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise InvalidInput(
                f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another one with --port."
            ) from None
        _print_banner(host, runner.addresses[0][1], checks=bool(listener.verifiers))
        await stop.wait()


def _print_banner(host: str, port: int, *, checks: bool) -> None:
    """Tell how to register this receiver; on stderr, so that stdout holds arrivals alone."""
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}/"
    unverified = "" if checks else "Signatures are not checked: give the webhook's secret with --secret.\n"
    sys.stderr.write(
        f"Listening on {url} (Ctrl-C ends it)\n{unverified}\n"
        f"Register it:\n"
        f"  dispatcher webhook create --tenant TENANT --url {url} --subscriptions '*'\n\n"
        f"The service sends to this machine, without TLS, only if its config.toml says so:\n"
        f"  [egress]\n"
        f"  https_only = false\n"
        f'  allow_subnets = ["127.0.0.0/8", "::1/128"]\n\n'
    )
    sys.stderr.flush()


def _print_json(arrival: Arrival) -> None:
    sys.stdout.write(json.dumps(arrival.document(), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _print_text(arrival: Arrival) -> None:
    from dispatcher.cli import output

    if not arrival.checked:
        verdict, style = "not checked", "yellow"
    elif arrival.problem is None:
        verdict, style = "verified", "green"
    else:
        verdict, style = f"NOT verified: {arrival.problem}", "red"
    output.line(
        f"{arrival.received_at.astimezone():%H:%M:%S}  {arrival.event_type or arrival.method}  "
        f"{arrival.webhook_id or 'no webhook-id'}  → {arrival.status}",
        style="bold",
    )
    output.line(f"  {verdict}", style=style)
    if arrival.note is not None:
        output.line(f"  {arrival.note}", style="red")
    content = arrival.headers.get("content-type", "no content type")
    output.line(f"  {len(arrival.body)} bytes, {content}:")
    text = arrival.body.decode("utf-8", errors="backslashreplace")
    if arrival.parsed is not None:
        text = indented(text)
    output.line("".join(f"  {part}\n" for part in text.splitlines()))
    sys.stdout.flush()
