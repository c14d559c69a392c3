"""Registering an endpoint, and changing one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from dispatcher.admin import EndpointRow, WebhookDraft
from dispatcher.console import asking
from dispatcher.console.endpoint_form import EMPTY, Typed, changes, draft, typed, typed_of
from dispatcher.console.view import Page, View
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId
from dispatcher.presets import PRESETS
from dispatcher.retry import PRESETS as SCHEDULES

MOST_SUGGESTED: Final = 500
"""Tenants and event types that a field suggests: more make a page heavy, and anything can be typed."""

WAYS: Final = (
    ("", "Do not ask"),
    ("challenge", "Challenge: a signed POST whose text must come back"),
    ("cloudevents", "CloudEvents: OPTIONS, answered with consent"),
)
"""How a subscriber is asked first."""


async def new(view: View) -> web.StreamResponse:
    """Show the form of a new endpoint."""
    given = {**EMPTY, "tenant": view.tenant or view.given("tenant") or "", "url": view.given("url") or ""}
    return await _form(view, given)


async def create(view: View) -> web.StreamResponse:
    """Register an endpoint, and show its secret this once."""
    given = typed(await view.request.post())
    tenant = view.tenant or given["tenant"]
    if not tenant:
        return await _form(view, given, wrong={"tenant": "Whose endpoint is it?"})
    try:
        wanted = draft(given)
        if given["new_tenant"] and not view.is_portal:
            await _register(view, tenant)
        made = await _created(view, tenant, wanted)
    except (InvalidInput, NotFound) as error:
        return await _form(view, given, wrong=_blame(error))
    return view.render("endpoint_created.html", endpoint=made)


async def _register(view: View, tenant: str) -> None:
    """Register a tenant that was said to be new, unless it is there by now."""
    try:
        await view.admin.tenant(tenant)
    except NotFound:
        deed = view.deed("tenant.created", target=tenant, tenant=tenant)
        await view.audited(deed, lambda admin: admin.create_tenant(tenant))


async def _created(view: View, tenant: str, wanted: WebhookDraft) -> EndpointRow:
    def deed(row: EndpointRow) -> Any:
        return view.deed("endpoint.created", target=row.id, tenant=tenant, url=row.url)

    if not _asks(wanted.verification, wanted.refuses_wrong_signatures):
        return await view.audited(deed, lambda admin: admin.create_webhook(tenant, wanted))
    # nobody waits for a subscriber within a transaction: what is about to be done is noted first
    await view.admin.note(view.deed("endpoint.asked", tenant=tenant, url=wanted.url))
    row = await view.admin.create_webhook(tenant, wanted)
    await view.admin.note(deed(row))
    return row


async def edit(view: View) -> web.StreamResponse:
    """Show the form of an endpoint."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    return await _form(view, typed_of(endpoint), endpoint=endpoint)


async def update(view: View) -> web.StreamResponse:
    """Change an endpoint."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    given = typed(await view.request.post())
    try:
        wanted = changes(typed_of(endpoint), given)
        names = [name for name in EMPTY if getattr(wanted, name, None) != getattr(type(wanted)(), name, None)]
        deed = view.deed("endpoint.changed", target=endpoint.id, tenant=endpoint.tenant, fields=names)
        if _asks(wanted.verification, wanted.refuses_wrong_signatures):
            await view.admin.note(replace(deed, action="endpoint.asked"))
            await view.admin.update_webhook(endpoint.id, wanted, tenant=view.tenant)
            await view.admin.note(deed)
        elif names:
            await view.audited(deed, lambda admin: admin.update_webhook(endpoint.id, wanted, tenant=view.tenant))
    except InvalidInput as error:
        return await _form(view, given, endpoint=endpoint, wrong=_blame(error))
    return view.redirect("endpoint", id=endpoint.id, said="Saved." if names else "Nothing was changed.")


def identity(view: View) -> EndpointId:
    """Return the endpoint's id in the path."""
    return EndpointId(asking.identifier(view.part(), "endpoint"))


def _asks(way: str | None, refuses_wrong: Any) -> bool:
    return bool(refuses_wrong) or way not in (None, "none")


def _blame(error: InvalidInput | NotFound) -> Mapping[str, str]:
    """Put a refusal to its field; of what is not there only the tenant was named."""
    field = "tenant" if isinstance(error, NotFound) or error.field == "name" else error.field or ""
    return {field if field in EMPTY else "": str(error)}


async def _form(
    view: View, given: Typed, *, endpoint: EndpointRow | None = None, wrong: Mapping[str, str] | None = None
) -> web.Response:
    catalog = await view.admin.catalog()
    formats = [row.name for row in await view.admin.list_formats()]
    profiles = [row for row in await view.admin.list_profiles() if row.name != "standard"]
    tenants = [] if view.is_portal or endpoint is not None else await view.admin.list_tenants()
    known = {row.name for row in profiles}
    return view.render(
        "endpoint_form.html",
        status=422 if wrong else 200,
        given=given,
        endpoint=endpoint,
        wrong=wrong or {},
        tenants=[tenant.name for tenant in tenants[:MOST_SUGGESTED]],
        event_types=[one.name for one in catalog.event_types[:MOST_SUGGESTED]],
        formats=[("", "default"), *((name, name) for name in formats)],
        profiles=[
            *((row.name, row.description or "") for row in profiles),
            *((name, "") for name in given["signing_profiles"] if name not in known),
        ],
        presets=[("", "none"), *((name, f"{name}: {preset.description}") for name, preset in PRESETS.items())],
        schedules=tuple(SCHEDULES),
        ways=WAYS,
    )


PAGES: Final = (
    Page("new_endpoint", "/endpoints/new", new, in_portal=True),
    Page("create_endpoint", "/endpoints/new", create, "POST", in_portal=True),
    Page("edit_endpoint", "/endpoints/{id}/edit", edit, in_portal=True),
    Page("update_endpoint", "/endpoints/{id}/edit", update, "POST", in_portal=True),
)
