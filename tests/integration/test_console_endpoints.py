"""Endpoints in the console, and in a tenant's own pages."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dispatcher.embedded import EmbeddedPostgres
from dispatcher.model import EndpointId, EndpointState
from support.admin import URL, attempt, fan_out, make_webhook, pending_of, send
from support.pages import Answer, Served, Visitor, serving_pages
from support.postgres import shared_clone

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all: each test has tenants of its own."""
    with shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    """Both listeners."""
    async with serving_pages(database) as served:
        yield served


@pytest.fixture
async def operator(served: Served) -> Visitor:
    """Somebody who sees everything."""
    return await served.operator()


@pytest.fixture
def tenant() -> str:
    """A name that no other test uses."""
    return f"tenant-{uuid4().hex[:12]}"


@pytest.fixture
async def webhook(served: Served, tenant: str) -> EndpointId:
    """An endpoint of the tenant."""
    return await make_webhook(served.admin, tenant, "appointment.*", description="The north clinic")


async def deeds(served: Served, target: Any) -> list[str]:
    """What was noted of a thing, the first first."""
    page = await served.admin.audit_page(target=str(target))
    return [entry.action for entry in reversed(page.entries)]


# the list


async def test_the_list_is_searched_by_url_description_tenant_and_id(
    served: Served, operator: Visitor, tenant: str, webhook: EndpointId
) -> None:
    """Each finds it; what fits nothing finds nothing."""
    found = [
        str(webhook) in (await operator.get("/endpoints", params={"search": text})).html
        for text in (tenant, str(webhook)[:23], f"nothing-{tenant}")
    ]

    assert found == [True, True, False]


async def test_the_list_is_filtered_by_state(
    served: Served, operator: Visitor, tenant: str, webhook: EndpointId
) -> None:
    """Archived ones are shown only when they are asked for."""
    await served.admin.archive_webhook(webhook)

    shown = [
        str(webhook) in (await operator.get("/endpoints", params={"search": tenant, "state": state})).html
        for state in ("", "active", "archived")
    ]

    assert shown == [False, False, True]


async def test_an_unknown_state_is_refused(operator: Visitor) -> None:
    """With what there is."""
    answer = await operator.get("/endpoints?state=broken")

    assert (answer.status, "`broken` is no state" in answer.text) == (422, True)


async def test_the_list_shows_health_at_a_glance(
    served: Served, database: str, operator: Visitor, tenant: str, webhook: EndpointId
) -> None:
    """Failing since when and why, what waits, when the next attempt is."""
    await fail(database, served, tenant, webhook)

    page = (await operator.get("/endpoints", params={"search": tenant, "failing": "yes"})).page

    assert "failing" in page.text
    assert "answered 503" in page.text
    assert len(page.having("svg", class_="spark")) == 1
    assert len(page.having("td", data_label="Next attempt")) == 1


async def fail(database: str, served: Served, tenant: str, webhook: EndpointId) -> int:
    """Let a delivery fail once, as a worker would; its id."""
    connection = await asyncpg.connect(database)
    try:
        event = await send(served.admin, tenant)
        await fan_out(connection)
        delivery = await pending_of(connection, event)
        await attempt(connection, delivery, status=503, next_in=60)
        await connection.execute(
            """
            insert into dispatcher.endpoint_health (endpoint_id, failing_since, last_failure_at, last_error)
            values ($1, now(), now(), 'answered 503')
            on conflict (endpoint_id) do update
            set failing_since = now(), last_failure_at = now(), last_error = 'answered 503'
            """,
            webhook,
        )
    finally:
        await connection.close()
    return delivery


# registering


def filled(tenant: str, **fields: Any) -> dict[str, Any]:
    """What somebody types."""
    return {"tenant": tenant, "url": URL, "subscriptions": ["appointment.*\r\nPATIENT_CREATED", ""]} | fields


async def test_an_endpoint_is_registered(served: Served, operator: Visitor, tenant: str) -> None:
    """As typed; the secret is shown this once, with how to verify; who did it is noted."""
    await served.admin.create_tenant(tenant)

    answer = await operator.submit(await operator.get("/endpoints/new"), "/endpoints/new", **filled(tenant))

    (made,) = await served.admin.list_webhooks(tenant)
    secret = (await served.admin.webhook_secrets(made.id))[0].value
    entry = (await served.admin.audit_page(target=str(made.id))).entries[0]
    assert (answer.status, made.url, set(made.subscriptions)) == (200, URL, {"appointment.*", "PATIENT_CREATED"})
    assert SECRET.findall(answer.html) == [secret]
    assert "from standardwebhooks import Webhook" in answer.text
    assert (entry.who, entry.action, entry.tenant) == ("anna", "endpoint.created", tenant)
    assert secret not in str(entry)


async def test_a_new_tenant_is_registered_with_its_first_endpoint(
    served: Served, operator: Visitor, tenant: str
) -> None:
    """Only where somebody says that it is new, which the form offers once it does not know the name."""
    first = await operator.submit(await operator.get("/endpoints/new"), "/endpoints/new", **filled(tenant))
    offered = first.page.having("input", name="new_tenant")

    answer = await operator.submit(first, "/endpoints/new", new_tenant="yes")

    (made,) = await served.admin.list_webhooks(tenant)
    assert (first.status, len(offered), answer.status, made.url) == (422, 1, 200, URL)
    assert await deeds(served, tenant) == ["tenant.created"]


async def test_every_field_can_be_set(served: Served, operator: Visitor, tenant: str) -> None:
    """In the words of people."""
    await served.admin.create_tenant(tenant)
    typed = filled(
        tenant,
        subscriptions=["a.b", "one, with comma"],
        notification_email="it@example.com",
        additional_notification_emails="a@example.com\r\nb@example.com",
        description="North",
        payload_format="raw",
        signing_profiles=["github"],
        filter='payload.clinic == "north"',
        headers="X-Clinic: north\r\nX-Key: a:b",
        retry_schedule="5s, 5m, 2h",
        timeout="10s",
        rate_limit="2.5",
        warn_after="1h",
        disable_after="2d",
        metadata='{"crm": 17}',
        include_descendants="yes",
    )

    await operator.submit(await operator.get("/endpoints/new"), "/endpoints/new", **typed)

    (made,) = await served.admin.list_webhooks(tenant)
    assert set(made.subscriptions) == {"a.b", "one, with comma"}
    assert (made.notification_email, made.additional_notification_emails) == (
        "it@example.com",
        ("a@example.com", "b@example.com"),
    )
    assert (made.description, made.payload_format, made.signing_profiles) == ("North", "raw", ("standard", "github"))
    assert (made.filter, made.headers) == ('payload.clinic == "north"', {"X-Clinic": "north", "X-Key": "a:b"})
    assert (made.retry_schedule, made.timeout, made.rate_limit) == ((5, 300, 7200), 10, 2.5)
    assert (made.warn_after, made.disable_after) == (3600, 172_800)
    assert (made.metadata, made.include_descendants) == ({"crm": 17}, True)


@pytest.mark.parametrize(
    "field, text",
    [
        ("tenant", "nobody-at-all"),
        ("tenant", ""),
        ("url", "http://example.com/"),
        ("url", "https://127.0.0.1/"),
        ("subscriptions", ""),
        ("notification_email", "nobody"),
        ("additional_notification_emails", "a@example.com\nnobody"),
        ("payload_format", "made-up"),
        ("signing_profiles", ["made-up"]),
        ("filter", "payload.("),
        ("headers", "X-Clinic"),
        ("headers", "Host: x"),
        ("retry_schedule", "soon"),
        ("timeout", "10h"),
        ("rate_limit", "many"),
        ("warn_after", "x"),
        ("disable_after", "x"),
        ("secret", "whsec_x"),
        ("metadata", "[]"),
        ("metadata", "{"),
        ("preset", "made-up"),
        ("verification", "made-up"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field(
    served: Served, operator: Visitor, tenant: str, field: str, text: Any
) -> None:
    """422, what was typed is still there, and nothing is registered."""
    await served.admin.create_tenant(tenant)
    typed = filled(tenant, subscriptions=["a.b"], description="Keep this") | {field: text}

    answer = await operator.submit(await operator.get("/endpoints/new"), "/endpoints/new", **typed)

    assert answer.status == 422
    assert len(answer.page.having("p", class_="wrong")) == 1
    assert answer.page.form("/endpoints/new").fields["description"] == "Keep this"
    assert await served.admin.list_webhooks(tenant) == []


async def test_names_from_outside_are_escaped(served: Served, operator: Visitor, tenant: str) -> None:
    """Markup in a URL, a description or an event type is text."""
    evil = "<script>alert(1)</script>"
    id_ = await make_webhook(served.admin, tenant, evil, description=evil, metadata={"x": evil}, headers={"X-A": evil})

    pages = [
        await operator.get(path)
        for path in (f"/endpoints?search={tenant}", f"/endpoints/{id_}", f"/endpoints/{id_}/edit")
    ]

    assert not any(evil in answer.html for answer in pages)
    assert all("<script>alert" in answer.text or "alert(1)" in answer.html for answer in pages)


# changing


async def test_what_is_not_changed_stays(served: Served, operator: Visitor, tenant: str) -> None:
    """Saving a form as it came changes nothing, whatever an endpoint has."""
    made = await make_webhook(
        served.admin,
        tenant,
        "a.b",
        notification_email="it@example.com",
        headers={"X-A": "1"},
        retry_schedule="none",
        timeout=1.5,
        rate_limit=0.5,
        metadata={"a": [1, {"b": "ä"}]},
        signing_profiles=("standard", "github"),
        filter="true",
        description="a\nb",
    )
    before = await served.admin.webhook(made)

    answer = await operator.submit(await operator.get(f"/endpoints/{made}/edit"), "/edit")

    assert (answer.status, "Nothing was changed." in answer.text) == (200, True)
    assert await served.admin.webhook(made) == before


async def test_an_endpoint_is_changed(served: Served, operator: Visitor, webhook: EndpointId) -> None:
    """What is emptied is cleared; which fields were changed is noted, not their values."""
    form = await operator.get(f"/endpoints/{webhook}/edit")

    answer = await operator.submit(form, "/edit", description="", timeout="5s", subscriptions="*", headers="X-Key: k3y")

    changed = await served.admin.webhook(webhook)
    entry = (await served.admin.audit_page(target=str(webhook))).entries[0]
    assert (answer.path, "Saved." in answer.text) == (f"/endpoints/{webhook}", True)
    assert (changed.description, changed.timeout, changed.subscriptions) == (None, 5.0, ("*",))
    assert set(entry.details["fields"]) == {"description", "timeout", "subscriptions", "headers"}
    assert "k3y" not in str(entry)


async def test_a_change_that_is_refused_changes_nothing(served: Served, operator: Visitor, webhook: EndpointId) -> None:
    """Nor is it noted."""
    before = await served.admin.webhook(webhook)
    form = await operator.get(f"/endpoints/{webhook}/edit")

    answer = await operator.submit(form, "/edit", description="New", timeout="10h")

    assert (answer.status, answer.page.form("/edit").fields["timeout"]) == (422, "10h")
    assert await served.admin.webhook(webhook) == before
    assert await deeds(served, webhook) == []


async def test_an_endpoint_goes_through_its_states(served: Served, operator: Visitor, webhook: EndpointId) -> None:
    """Each by a button of its page, each noted."""
    states = []
    for act in ("pause", "resume", "disable", "enable", "archive"):
        page = await operator.get(f"/endpoints/{webhook}")
        await operator.submit(page, f"/{act}")
        row = await served.admin.webhook(webhook)
        states.append("archived" if row.archived_at else row.state)

    assert states == [
        EndpointState.PAUSED,
        EndpointState.ACTIVE,
        EndpointState.DISABLED,
        EndpointState.ACTIVE,
        "archived",
    ]
    assert await deeds(served, webhook) == [
        f"endpoint.{done}" for done in ("paused", "resumed", "disabled", "enabled", "archived")
    ]


async def test_an_archived_endpoint_offers_nothing(served: Served, operator: Visitor, webhook: EndpointId) -> None:
    """It is shown, and what is tried all the same is refused."""
    page = await operator.get(f"/endpoints/{webhook}")
    await served.admin.archive_webhook(webhook)

    answer = await operator.submit(page, "/pause")
    shown = await operator.get(f"/endpoints/{webhook}")

    assert (answer.status, shown.status) == (409, 200)
    assert not [form for form in shown.page.forms if form.action.endswith(("/pause", "/archive", "/test"))]


# secrets


async def test_secrets_are_shown_on_demand_and_that_is_noted(
    served: Served, operator: Visitor, webhook: EndpointId
) -> None:
    """The endpoint's own page never holds them."""
    secret = (await served.admin.webhook_secrets(webhook))[0].value
    page = await operator.get(f"/endpoints/{webhook}")

    answer = await operator.submit(page, "/secrets")

    assert (secret in page.html, secret in answer.html) == (False, True)
    assert await deeds(served, webhook) == ["endpoint.secrets_shown"]
    assert (await operator.get(f"/endpoints/{webhook}/secrets")).status == 405


async def test_a_secret_is_rotated(served: Served, operator: Visitor, webhook: EndpointId) -> None:
    """The new one is shown, beside the old one until that ends."""
    before = (await served.admin.webhook_secrets(webhook))[0].value
    page = await operator.submit(await operator.get(f"/endpoints/{webhook}"), "/secrets")

    answer = await operator.submit(page, "/rotate", overlap="2h")

    now = [row.value for row in await served.admin.webhook_secrets(webhook)]
    assert now[1:] == [before]
    assert SECRET.findall(answer.html) == now
    assert await deeds(served, webhook) == ["endpoint.secrets_shown", "endpoint.secret_rotated"]


async def test_a_secret_that_cannot_be_opened_is_not_shown(
    database: str, operator: Visitor, webhook: EndpointId
) -> None:
    """The page says why, and offers the way out, which works."""
    page = await operator.get(f"/endpoints/{webhook}")
    connection = await asyncpg.connect(database)
    try:
        lose = "update dispatcher.endpoint_secrets set sealing_key = 'lost' where endpoint_id = $1"
        await connection.execute(lose, webhook)
    finally:
        await connection.close()

    shown = await operator.submit(page, "/secrets")
    rotated = await operator.submit(shown, "/rotate", overlap="0s")

    assert (shown.status, SECRET.findall(shown.html)) == (409, [])
    assert "main key" in shown.text
    assert "lost" in shown.text
    assert (rotated.status, len(SECRET.findall(rotated.html))) == (200, 1)


async def test_a_rotation_that_is_refused_shows_no_secret(
    served: Served, operator: Visitor, webhook: EndpointId
) -> None:
    """For nobody noted that somebody looked."""
    page = await operator.submit(await operator.get(f"/endpoints/{webhook}"), "/secrets")

    answer = await operator.submit(page, "/rotate", overlap="30d")

    assert (answer.status, SECRET.findall(answer.html)) == (422, [])
    assert "The overlap is 0 to 7 days" in answer.text


# a test, and what was sent


async def test_a_test_is_shown_with_how_it_was_answered(
    served: Served, database: str, operator: Visitor, webhook: EndpointId
) -> None:
    """While nothing was tried yet, the page says so and looks again."""
    delivery = await served.admin.test_webhook(webhook)
    path = f"/endpoints/{webhook}?tested={delivery}"
    waiting = await operator.get(path)
    connection = await asyncpg.connect(database)
    try:
        await attempt(connection, delivery, status=200)
    finally:
        await connection.close()

    shown = await operator.get(path)

    assert "no attempt was made yet" in waiting.text
    assert len(waiting.page.having("section", id="test", hx_trigger="every 2s")) == 1
    assert "It arrived" in shown.text
    assert "answer" in shown.text


async def test_a_test_of_another_endpoint_is_not_shown(
    served: Served, operator: Visitor, tenant: str, webhook: EndpointId
) -> None:
    """Whatever the address says."""
    other = await served.admin.test_webhook(await make_webhook(served.admin, tenant))

    pages = [await operator.get(f"/endpoints/{webhook}?tested={text}") for text in (other, 99_999_999, "x")]

    assert [answer.status for answer in pages] == [200] * 3
    assert not any(answer.page.having("section", id="test") for answer in pages)


async def test_the_page_shows_health_and_the_latest_deliveries(
    served: Served, database: str, operator: Visitor, tenant: str, webhook: EndpointId
) -> None:
    """Why it fails, what waits, and where to look."""
    delivery = await fail(database, served, tenant, webhook)

    page = (await operator.get(f"/endpoints/{webhook}")).page

    assert "answered 503" in page.text
    assert page.having("a", href=f"/deliveries/{delivery}")
    assert page.having("a", href=f"/replays?webhook={webhook}")


# tenants' own pages


async def test_a_tenant_sees_its_own_endpoints_only(served: Served, tenant: str, webhook: EndpointId) -> None:
    """Others' are not in the list, whatever is searched."""
    other = await make_webhook(served.admin, f"{tenant}-other", "*")
    guest = await served.guest(tenant)

    pages = [await guest.get(f"/portal/endpoints{query}") for query in ("", f"?search={tenant}", f"?search={other}")]

    assert [str(webhook) in answer.html for answer in pages] == [True, True, False]
    assert not any(
        str(other) in answer.html.replace(f'value="{other}"', "").replace(f"search={other}", "") for answer in pages
    )


async def test_a_tenant_reaches_no_others_endpoint_by_any_path(served: Served, tenant: str) -> None:
    """It answers exactly as an id that nobody has, and nothing happens."""
    other = await make_webhook(served.admin, f"{tenant}-other", "*")
    mine = await make_webhook(served.admin, tenant, "*")
    before = await served.admin.webhook(other)
    guest = await served.guest(tenant)
    token = (await guest.get(f"/portal/endpoints/{mine}")).page.form("/pause").fields["form_token"]

    async def asked(id_: object) -> list[tuple[int, str]]:
        found: list[Answer] = [await guest.get(f"/portal/endpoints/{id_}{end}") for end in ("", "/edit", "?range=7d")]
        for act in ("edit", "pause", "resume", "enable", "disable", "archive", "test", "secrets", "rotate"):
            fields = {"form_token": token, "url": "https://evil.example/", "subscriptions": "*"}
            found.append(await guest("POST", f"/portal/endpoints/{id_}/{act}", data=fields))
        found.append(await guest.get(f"/portal/deliveries?webhook={id_}"))
        found.append(await guest.get(f"/portal/replays?webhook={id_}"))
        return [(answer.status, answer.html.replace(str(id_), "ID")) for answer in found]

    nobodys = uuid4()
    others, missing = await asked(other), await asked(nobodys)

    assert [status for status, _ in others][:12] == [404] * 12
    assert [status for status, _ in others] == [status for status, _ in missing]
    assert [html for _, html in others] == [html for _, html in missing]
    assert await served.admin.webhook(other) == before
    assert await deeds(served, other) == []


async def test_a_tenant_registers_for_itself_only(served: Served, tenant: str) -> None:
    """Whatever the form says; who did it is noted."""
    other = f"{tenant}-other"
    await served.admin.create_tenant(other)
    await served.admin.create_tenant(tenant)
    guest = await served.guest(tenant)
    form = await guest.get("/portal/endpoints/new")

    answer = await guest.submit(form, "/endpoints/new", **filled(other, new_tenant="yes"))

    (made,) = await served.admin.list_webhooks(tenant)
    entry = (await served.admin.audit_page(target=str(made.id))).entries[0]
    assert (answer.status, await served.admin.list_webhooks(other)) == (200, [])
    assert (entry.who, entry.tenant) == (f"portal:{tenant}", tenant)
    assert "tenant" not in form.page.form("/endpoints/new").fields


async def test_a_tenant_rotates_pauses_and_changes(served: Served, tenant: str, webhook: EndpointId) -> None:
    """The same pages as operators have."""
    guest = await served.guest(tenant)
    page = await guest.get(f"/portal/endpoints/{webhook}")
    secrets = await guest.submit(page, "/secrets")
    await guest.submit(secrets, "/rotate")
    await guest.submit(await guest.get(f"/portal/endpoints/{webhook}/edit"), "/edit", description="Ours")
    await guest.submit(page, "/pause")

    row = await served.admin.webhook(webhook)

    assert (row.state, row.description) == (EndpointState.PAUSED, "Ours")
    assert await deeds(served, webhook) == [
        "endpoint.secrets_shown",
        "endpoint.secret_rotated",
        "endpoint.changed",
        "endpoint.paused",
    ]


async def test_links_of_a_tenants_pages_stay_there(served: Served, tenant: str, webhook: EndpointId) -> None:
    """Every address of them is below the portal, and leads somewhere."""
    guest = await served.guest(tenant)
    pages = [await guest.get(f"/portal/endpoints{end}") for end in ("", "/new", f"/{webhook}", f"/{webhook}/edit")]

    links = {link for answer in pages for link in answer.page.links.values() if not link.startswith(("#", "https://"))}
    statuses = {link: (await guest.get(link)).status for link in sorted(links)}

    assert all(link.startswith("/portal") for link in links)
    assert set(statuses.values()) == {200}, statuses
