"""Tells the story: plays the scenes one by one on the stage, and says what is to be seen; judging is left to `judge`."""

import asyncio
import json
import math
import shlex
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatcher.admin import DeliveryRow, EventRow, WebhookDraft, views
from dispatcher.clock import Clock
from dispatcher.demo import scenario
from dispatcher.demo.judge import Facts
from dispatcher.demo.receiver import Arrival, Subscriber
from dispatcher.demo.scenario import FAILING, HEALTHIE, HOOKS, Hook, Scene
from dispatcher.demo.screen import Screen
from dispatcher.demo.stage import OPERATOR, Stage, program
from dispatcher.model import DeliveryState, EndpointId
from dispatcher.store import history
from dispatcher.store.pool import connect

PATIENCE: Final = 15.0
"""Seconds to wait for anything: all of it takes milliseconds, and the failing endpoint two seconds."""

LOOK_EVERY: Final = 0.02
"""Seconds between two looks."""

BREATH: Final = 0.2
"""Seconds between two scenes: each meets an idle service, and an eye can follow."""

MOST: Final = 1000
"""Rows asked for at once; the story makes a dozen."""


class Story:
    """The demo's parts, in order."""

    def __init__(
        self,
        stage: Stage,
        screen: Screen,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stage = stage
        self._screen = screen
        self._sleep = sleep
        self._clock = Clock()
        self._application: Any = None
        self._commits: list[tuple[float, float]] = []
        """When each transaction began and when it was committed, unix seconds."""
        self._paths: dict[EndpointId, str] = {}
        stage.receiver.on_arrival = self._show_arrival
        stage.mailbox.on_mail = screen.mail

    async def tell(self, *, seconds: float) -> None:
        """Play all scenes. `seconds`: what setting up has taken."""
        await self._show_stage(seconds)
        await self._register()
        await self._stage.owner.execute(scenario.SET_UP)
        self._application = await connect(self._stage.application_url, application_name="application")
        try:
            await self._insert()
            await self._roll_back()
            await self._insert_unwanted()
            await self._let_die()
        finally:
            await self._application.close()
        await self._until(self._all_is_settled)

    # the parts

    async def _show_stage(self, seconds: float) -> None:
        stage, screen = self._stage, self._screen
        await self._until(lambda: stage.owns_all_shards)
        screen.heading("1. A database, a worker, a receiver")
        screen.say(
            f"PostgreSQL {stage.postgres_version} runs in {stage.folder}, with {stage.migrations} migrations applied. A "
            f"worker delivers. A sample receiver listens on {stage.receiver_url}, a mail server on {stage.mail_address}. "
            f"Set up in {seconds:.1f} s; all of it is removed in the end."
        )

    async def _register(self) -> None:
        stage, screen = self._stage, self._screen
        screen.heading("2. Tenants register endpoints")
        screen.say("Who wants which events, and where. In the right column: what the body of a request is.")
        screen.gap()
        shown: dict[str, Any] = {}
        for tenant in dict.fromkeys(hook.tenant for hook in HOOKS):
            await stage.admin.create_tenant(tenant)
        for hook in HOOKS:
            webhook = await stage.admin.create_webhook(hook.tenant, _draft(hook, stage.receiver_url))
            assert webhook.secret is not None  # an answer to create holds it
            stage.receiver.subscribers[hook.path] = Subscriber(webhook.secret, hook.type_member)
            self._paths[webhook.id] = hook.path
            if hook is FAILING:
                shown = views.created_webhook_json(webhook)
        stage.receiver.out_of_order.add(FAILING.path)
        screen.table(
            ("SYSTEM", "TENANT", "ENDPOINT", "SUBSCRIPTIONS", "BODY"),
            [
                (hook.system, hook.tenant, hook.path, ", ".join(hook.subscriptions), _body(hook.payload_format))
                for hook in HOOKS
            ],
        )
        screen.gap()
        screen.say(f"What the owner of {FAILING.path} is told, once: the secret that requests are signed with.")
        screen.document(shown)

    async def _insert(self) -> None:
        self._screen.heading("3. Applications insert events, in plain SQL")
        self._screen.say(
            "The application's role may insert into the outbox, and do nothing else there. Below each insert: the "
            "requests that arrive, as the receiver sees and verifies them."
        )
        self._screen.code(scenario.SET_UP.splitlines()[-1])
        for scene in scenario.SCENES:
            self._screen.gap()
            await self._play(scene)
        await self._prove_privileges()

    async def _prove_privileges(self) -> None:
        statement = "select * from dispatcher.outbox;"
        self._screen.gap()
        self._screen.say("The same role, reading:")
        self._screen.code(statement)
        try:
            await self._application.execute(statement)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the demo has to show
            self._screen.say(f"ERROR: {error}")
        else:
            self._screen.bad("It may read the outbox, which it must not.")

    async def _roll_back(self) -> None:
        self._screen.heading("4. Insert and roll back: nothing is sent")
        await self._play(scenario.ROLLED_BACK)
        self._screen.say("Nothing arrives.")  # whether it stays so is judged in the end

    async def _insert_unwanted(self) -> None:
        self._screen.heading("5. An event that nobody wants")
        await self._play(scenario.UNWANTED)
        event = await self._event_of(scenario.UNWANTED)
        if event is None:
            return
        await self._until(lambda: self._is_read(event))
        explanation = await self._stage.admin.explain(event.id)
        self._screen.say("Why did nobody get it? `dispatcher event explain` says:")
        self._screen.code(explanation.summary)
        for finding in explanation.endpoints:
            self._screen.code(f"{finding.url}: {finding.why}")

    async def _let_die(self) -> None:
        stage, screen = self._stage, self._screen
        screen.heading("6. An endpoint that fails, until the delivery dies")
        await self._play(scenario.DYING)
        if not await self._until(self._has_died):
            return
        [dead, *_] = await self._deliveries(DeliveryState.DEAD)
        details = await stage.admin.delivery(dead.id)
        screen.gap()
        screen.say(f"Delivery {dead.id} is dead ({dead.reason}). Its attempts, as they are kept:")
        screen.table(
            ("ATTEMPT", "AT", "STATUS", "VERDICT", "NEXT"),
            [
                (
                    str(attempt.number),
                    f"{attempt.started_at.astimezone():%H:%M:%S.%f}"[:-3],
                    str(attempt.status or attempt.outcome),
                    attempt.verdict,
                    _delay(attempt.started_at, attempt.next_attempt_at),
                )
                for attempt in details.attempts
            ],
        )
        screen.gap()
        screen.say("The person at notificationEmail is told, by e-mail:")
        await self._until(lambda: bool(stage.mailbox.mails))

    def mend(self) -> None:
        """Let the receiver that was out of order work again."""
        self._stage.receiver.out_of_order.clear()

    async def invite(self) -> None:
        """Say where to look next, with commands to copy."""
        stage, screen = self._stage, self._screen
        dead = next(iter(await self._deliveries(DeliveryState.DEAD)), None)
        call, folder = program()
        screen.heading("7. Where to look next, while this runs")
        screen.say(f"In another terminal, first (the configuration is in {stage.config}):")
        path = "" if folder is None else f"PATH={shlex.quote(folder)}:$PATH "
        screen.code(f"export {path}DISPATCHER_CONFIG={shlex.quote(str(stage.config))}")
        if dead is not None:
            screen.say(
                "Why was it not delivered? And which others were not? The receiver works again by now, so retry:"
            )
            screen.code(f"{call} event explain {dead.event_id}")
            screen.code(f"{call} delivery list --state dead")
            screen.code(f"{call} delivery retry {dead.id}")
        screen.say("Insert events of your own, and see them arrive here; with SQL, or without:")
        payload = '{"resource_id": "67890", "event_type": "appointment.updated", "changed_fields": ["notes"]}'
        insert = (
            "insert into dispatcher.outbox (tenant, event_type, payload) "
            f"values ('{HEALTHIE}', 'appointment.updated', '{payload}');"
        )
        escaped = insert.replace('"', '\\"')
        if shutil.which("psql") is not None:
            screen.code(f"psql '{stage.application_url}' -c \"{escaped}\"")
        screen.code(f"{call} event send --tenant {HEALTHIE} --type appointment.updated --payload '{payload}'")
        await self._invite_to_api()
        screen.say(f"Look around in the console, as {OPERATOR} with the password {stage.console_password}:")
        screen.code(f"{stage.ops_url}/")
        screen.say("See all that there is, the figures for Prometheus, and what the service logs:")
        screen.code(f"{call} webhook list")
        screen.code(f"{call} event list")
        screen.code(f"curl -s {stage.ops_url}/metrics")
        screen.code(f"curl -s {stage.ops_url}/readyz")
        screen.code(f"tail -n 20 {shlex.quote(str(stage.log))}")
        screen.gap()
        screen.title("It runs on, and shows what arrives. Ctrl-C ends it and removes everything.")

    async def _invite_to_api(self) -> None:
        """Offer calls of the HTTP API, with a key that works."""
        stage, screen = self._stage, self._screen
        new = await stage.admin.create_key(HEALTHIE, description="Made by the demo.")
        call = f"curl -sS -H 'TENANT: {HEALTHIE}' -H 'API-KEY: {new.key}'"
        payload = {"resource_id": "67892", "event_type": "appointment.created", "changed_fields": []}
        event = json.dumps({"type": "appointment.created", "payload": payload})
        screen.say(
            f"What a tenant does over HTTP ({stage.api_url}/docs shows all of it): look at its webhooks, send an event:"
        )
        screen.code(f"{call} {stage.api_url}/v1/webhook/list")
        screen.code(f"{call} -H 'Content-Type: application/json' {stage.api_url}/v1/events -d '{event}'")

    # what happened

    async def facts(self) -> Facts:
        """Gather what there is to judge."""
        return Facts(
            paths=self._paths,
            events=await self._stage.admin.list_events(limit=MOST),
            deliveries=await self._deliveries(),
            arrivals=tuple(self._stage.receiver.arrivals),
            mails=tuple(self._stage.mailbox.mails),
            complaints=_complaints(self._stage.log.read_text(encoding="utf-8", errors="replace").splitlines()),
        )

    def summarise(self, facts: Facts) -> None:
        """Print a table of all deliveries, and what became of the rest."""
        self._screen.heading("Summary")
        types = {event.id: event for event in facts.events}
        rows = []
        for delivery in sorted(facts.deliveries, key=lambda one: one.id):
            path = facts.paths.get(delivery.endpoint_id, "?")
            came = [one for one in facts.arrivals if (one.webhook_id, one.path) == (str(delivery.event_id), path)]
            event = types.get(delivery.event_id)
            rows.append(
                (
                    "?" if event is None else event.event_type,
                    delivery.tenant,
                    path,
                    str(delivery.state),
                    str(delivery.attempts),
                    f"{sum(one.problem is None for one in came)} of {len(came)}",
                    f"{sum(one.accepted for one in came)}",
                )
            )
        self._screen.table(
            ("EVENT TYPE", "TENANT", "ENDPOINT", "DELIVERY", "ATTEMPTS", "VERIFIED", "ACCEPTED"),
            rows,
        )
        self._screen.gap()
        self._screen.say(
            f"{len(facts.events)} events, {len(facts.deliveries)} deliveries, {len(facts.arrivals)} requests, "
            f"{len(facts.mails)} mail."
        )

    # playing a scene

    async def _play(self, scene: Scene) -> None:
        """Let the application do what the scene says, and wait for what arrives, and a moment more."""
        self._screen.say(scene.says)
        self._screen.code(scene.sql)
        receiver = self._stage.receiver
        expected = len(receiver.arrivals) + sum(len(example.wanted_by) for example in scene.examples)
        began = self._clock.now()
        await self._application.execute(scene.sql)
        self._commits.append((began, self._clock.now()))
        await self._until(lambda: len(receiver.arrivals) >= expected)
        await self._sleep(BREATH)

    def _show_arrival(self, arrival: Arrival) -> None:
        self._screen.arrival(arrival, took=self._took(arrival))

    def _took(self, arrival: Arrival) -> str | None:
        """How long after its commit an event arrived. Of events from elsewhere only the time of the insert is known."""
        try:
            message_id = UUID(arrival.webhook_id)
        except ValueError:
            return None
        if message_id.version != 7:  # noqa: PLR2004 - the version that begins with unix milliseconds
            return None
        start, what = (message_id.int >> 80) / 1000, "insert"
        for began, committed in reversed(self._commits):
            if began - 0.001 <= start <= committed + 0.001:  # ids are rounded to a millisecond
                start, what = committed, "commit"
                break
        return f"{max(1, math.ceil((arrival.received_at - start) * 1000))} ms after {what}"

    # looking

    async def _until(self, check: Callable[[], bool | Awaitable[bool]]) -> bool:
        """Wait until `check` holds; False if it does not in time."""
        deadline = self._clock.monotonic() + PATIENCE
        while True:
            found = check()
            if found if isinstance(found, bool) else await found:
                return True
            if self._clock.monotonic() >= deadline:
                return False
            await self._sleep(LOOK_EVERY)

    async def _deliveries(self, state: DeliveryState | None = None) -> Sequence[DeliveryRow]:
        return (await self._stage.admin.deliveries(state=state, limit=MOST)).deliveries

    async def _all_is_settled(self) -> bool:
        return not await self._deliveries(DeliveryState.PENDING)

    async def _has_died(self) -> bool:
        return bool(await self._deliveries(DeliveryState.DEAD))

    async def _event_of(self, scene: Scene) -> EventRow | None:
        [example] = scene.examples
        found = await self._stage.admin.list_events(example.tenant, event_type=example.event_type, limit=1)
        return found[0] if found else None

    async def _is_read(self, event: EventRow) -> bool:
        """Whether fan-out has read an event."""
        return not await history.is_unread(self._stage.owner, event)


def _draft(hook: Hook, receiver_url: str) -> WebhookDraft:
    return WebhookDraft(
        url=receiver_url + hook.path,
        subscriptions=hook.subscriptions,
        payload_format=hook.payload_format,
        retry_schedule=hook.retry_schedule,
        notification_email=hook.notification_email,
    )


def _body(payload_format: str) -> str:
    return "the payload itself" if payload_format == "raw" else "the standard format around it"


def _delay(started_at: datetime, next_at: datetime | None) -> str:
    return "-" if next_at is None else f"after {(next_at - started_at).total_seconds():.2f} s"


def _complaints(lines: Sequence[str]) -> list[str]:
    """Pick what was logged as an error."""
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in {"error", "critical"}:
            found.append(f"{entry.get('event')} {entry.get('step', '')}".strip())
    return found
