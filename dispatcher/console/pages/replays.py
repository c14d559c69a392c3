"""Replays: say what to send again, count it first, watch it go, cancel it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from dispatcher.admin import Fate, ReplayDraft, ReplayState
from dispatcher.admin.results import ReplayCount
from dispatcher.console import asking
from dispatcher.console.view import Page, View
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId, ReplayId

FATES: Final[Mapping[Fate, str]] = {
    Fate.REPLAYED: "sent again",
    Fate.SUPERSEDED: "left out: there is a later delivery of the event",
    Fate.EXPIRED: "left out: the event expired",
    Fate.PAST_RETENTION: "left out: the event is past retention",
}


async def listing(view: View) -> web.StreamResponse:
    """List replays, the latest first."""
    webhook = asking.uuid(view, "webhook")
    chosen = None if webhook is None else EndpointId(webhook)
    page = await view.admin.replay_page(webhook=chosen, tenant=view.tenant, cursor=view.given("cursor"))
    return view.render("replays.html", page=page, running=ReplayState.RUNNING, webhook=webhook)


async def show(view: View) -> web.StreamResponse:
    """Show a replay with how far it has come."""
    replay = await view.admin.replay(_id(view), tenant=view.tenant)
    webhook = await view.admin.webhook(replay.endpoint_id, tenant=view.tenant)
    return view.render("replay.html", replay=replay, webhook=webhook, running=ReplayState.RUNNING, fates=FATES)


async def new(view: View) -> web.StreamResponse:
    """Show the form of a new replay."""
    return await _form(view, view.request.query)


async def count(view: View) -> web.StreamResponse:
    """Count what a replay would send, and show the form again with the number."""
    form = await view.form()
    try:
        counted = await view.admin.count_replay(_webhook(form), await _draft(view, form), tenant=view.tenant)
    except (InvalidInput, NotFound) as error:
        return await _form(view, form, wrong=_blame(error))
    return await _form(view, form, counted=counted)


async def create(view: View) -> web.StreamResponse:
    """Begin a replay."""
    form = await view.form()
    try:
        webhook_id = _webhook(form)
        draft = await _draft(view, form)
        webhook = await view.admin.webhook(webhook_id, tenant=view.tenant)
        deed = view.deed("replay.created", target=webhook_id, tenant=webhook.tenant, states=list(draft.states))
        replay = await view.audited(deed, lambda admin: admin.create_replay(webhook_id, draft, tenant=view.tenant))
    except (InvalidInput, NotFound) as error:
        return await _form(view, form, wrong=_blame(error))
    return view.redirect("replay", id=replay.id, said="It has begun.")


async def cancel(view: View) -> web.StreamResponse:
    """End a replay."""
    replay_id = _id(view)
    replay = await view.admin.replay(replay_id, tenant=view.tenant)
    deed = view.deed("replay.cancelled", target=replay_id, tenant=replay.tenant)
    await view.audited(deed, lambda admin: admin.cancel_replay(replay_id, tenant=view.tenant))
    return view.redirect("replay", id=replay_id, said="It is cancelled; what it has sent is sent.")


async def _form(
    view: View,
    given: Mapping[str, str],
    *,
    wrong: Mapping[str, str] | None = None,
    counted: ReplayCount | None = None,
) -> web.Response:
    posted = await view.form_all("states") if view.request.method == "POST" else []
    return view.render(
        "replay_new.html",
        given=given,
        states=posted or ["dead"],
        wrong=wrong or {},
        counted=counted,
        fates=FATES,
        status=422 if wrong else 200,
    )


async def _draft(view: View, form: Mapping[str, str]) -> ReplayDraft:
    rate = form.get("rate")
    try:
        wanted = float(rate) if rate else None
    except ValueError:
        raise InvalidInput("A rate is a number: deliveries a second.", field="rate") from None
    return ReplayDraft(
        states=await view.form_all("states"),
        since=_instant(form, "since"),
        until=_instant(form, "until"),
        types=_list(form, "types"),
        causes=_list(form, "causes"),
        rate=wanted,
    )


def _list(form: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in form.get(name, "").replace("\n", ",").split(",") if part.strip())


def _instant(form: Mapping[str, str], name: str) -> datetime | None:
    text = form.get(name)
    return None if not text else asking.read_instant(text, field=name)


def _webhook(form: Mapping[str, str]) -> EndpointId:
    return EndpointId(asking.read_uuid(form.get("webhook", ""), field="webhook"))


def _blame(error: InvalidInput | NotFound) -> dict[str, str]:
    return {(error.field or "" if isinstance(error, InvalidInput) else "webhook"): str(error)}


def _id(view: View) -> ReplayId:
    return ReplayId(asking.identifier(view.part(), "replay"))


PAGES: Final = (
    Page("replays", "/replays", listing, in_portal=True),
    Page("new_replay", "/replays/new", new, in_portal=True),
    Page("count_replay", "/replays/count", count, "POST", in_portal=True),
    Page("create_replay", "/replays/create", create, "POST", in_portal=True),
    Page("replay", "/replays/{id}", show, in_portal=True),
    Page("cancel_replay", "/replays/{id}/cancel", cancel, "POST", in_portal=True),
)
