"""Who is let in, how often, and what every refusal looks like."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.embedded import EmbeddedPostgres
from support.api import HOOK, Client, serving_api
from support.clock import FakeClock
from support.proxy import Proxy

FIELDS = ["type", "title", "status", "detail", "instance"]


@pytest.fixture
async def api(database: str) -> AsyncIterator[Client]:
    """A client of one tenant, whose bodies may have 4 KiB."""
    async with serving_api(database, body_limit=4096) as client:
        yield client


@pytest.mark.parametrize(
    "headers, missing",
    [
        ({"TENANT": None}, ["TENANT"]),
        ({"API-KEY": None}, ["API-KEY"]),
        ({"TENANT": "", "API-KEY": None}, ["TENANT", "API-KEY"]),
    ],
    ids=["tenant", "key", "both"],
)
async def test_a_missing_header_is_named(api: Client, headers: dict[str, Any], missing: list[str]) -> None:
    """401, and which header it is."""
    answer = await api("GET", "/v1/webhook/list", headers=headers)

    assert answer.status == 401
    assert [wrong["header"] for wrong in answer.problem["errors"]] == missing


async def test_a_wrong_key_and_an_unknown_tenant_answer_alike(api: Client) -> None:
    """Nothing tells which tenants there are, or whether a key exists."""
    other = await api.other("other")
    revoked = await api.admin.create_key("acme")
    await api.admin.revoke_key(revoked.details.id)

    answers = [
        await api("GET", "/v1/webhook/list", headers=headers)
        for headers in (
            {"API-KEY": "dsp_unknown"},
            {"API-KEY": "ключ"},
            {"API-KEY": revoked.key},
            {"API-KEY": other.key},
            {"TENANT": "nobody"},
            {"TENANT": "other"},
            {"TENANT": "nobody", "API-KEY": "dsp_unknown"},
        )
    ]

    assert {answer.status for answer in answers} == {401}
    assert all(answer.body == answers[0].body for answer in answers)
    assert "API-KEY" in answers[0].headers["WWW-Authenticate"]


async def test_an_operators_key_acts_for_any_tenant(api: Client) -> None:
    """But for none that is not there."""
    operator = await api.other("operators", operator=True)
    created = await api.webhook()

    seen = await operator("GET", "/v1/webhook/list", headers={"TENANT": "acme"})
    own = await operator("GET", "/v1/webhook/list")
    nobody = await operator("GET", "/v1/webhook/list", headers={"TENANT": "nobody"})

    assert [row["id"] for row in seen.body] == [created["id"]]
    assert (own.body, nobody.status) == ([], 401)


async def test_a_tenants_name_may_be_any_text(database: str) -> None:
    """Headers carry it as UTF-8."""
    async with serving_api(database, tenant="Ärzte Süd") as api:
        created = await api.webhook()

        got = await api.ok("GET", f"/v1/webhook/get/{created['id']}")

        assert got["tenant"] == "Ärzte Süd"


async def test_the_use_of_a_key_is_noted_once_a_minute(database: str) -> None:
    """A call a moment later writes nothing; one after a minute does."""
    clock = FakeClock()
    async with serving_api(database, clock=clock) as api:
        noted = []
        for seconds in (0, 59, 2):
            clock.advance(seconds)
            await api.ok("GET", "/v1/webhook/list")
            (key,) = await api.admin.list_keys("acme")
            noted.append(key.last_used_at)

        assert noted[0] is not None
        assert noted[1] == noted[0]
        assert noted[2] != noted[0]


async def test_a_key_that_asks_too_much_has_to_wait(database: str) -> None:
    """429 with `Retry-After`; other keys are not concerned; after the wait it goes on."""
    clock = FakeClock()
    async with serving_api(database, clock=clock, rate_limit=2) as api:
        other = await api.other("other")

        statuses = [(await api("GET", "/v1/webhook/list")).status for _ in range(4)]
        held = await api("GET", "/v1/webhook/list")
        others = await other("GET", "/v1/webhook/list")
        clock.advance(float(held.headers["Retry-After"]))
        after = await api("GET", "/v1/webhook/list")

        assert statuses == [200] * 4
        assert (held.status, others.status, after.status) == (429, 200, 200)
        assert held.problem["title"] == "Too many requests"


PROBLEMS: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "no such path": (404, "GET", "/v1/nothing", {}),
    "other method": (405, "DELETE", "/v1/webhook/list", {}),
    "no such id": (404, "GET", "/v1/webhook/get/01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f", {}),
    "no id": (404, "GET", "/v1/webhook/get/x", {}),
    "too large": (413, "POST", "/v1/events", {"data": b"x" * 5000, "headers": {"Content-Type": "application/json"}}),
    "other media type": (415, "POST", "/v1/events", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
    "no JSON": (400, "POST", "/v1/events", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
    "no UTF-8": (400, "POST", "/v1/events", {"data": b'"\xff"', "headers": {"Content-Type": "application/json"}}),
    "deep": (400, "POST", "/v1/events", {"data": b"[" * 4000, "headers": {"Content-Type": "application/json"}}),
    "no object": (422, "POST", "/v1/events", {"body": []}),
    "nothing": (422, "POST", "/v1/events", {}),
    "unknown parameter": (422, "GET", "/v1/webhook/list?include_archive=1", {}),
    "parameter twice": (422, "GET", "/v1/webhook/list?include_archived=1&include_archived=0", {}),
    "parameter of nothing": (422, "GET", "/v1/event-types?x=1", {}),
    "wrong parameter": (422, "GET", "/v1/webhook/list?include_archived=perhaps", {}),
    "bad idempotency key": (
        422,
        "POST",
        "/v1/webhook/create",
        {"body": {"url": HOOK, "subscriptions": ["*"]}, "headers": {"Idempotency-Key": "x" * 300}},
    ),
}


async def test_every_error_is_a_problem(api: Client) -> None:
    """`application/problem+json` with the fields of RFC 9457, and a detail that is a sentence."""
    for name, (status, method, path, options) in PROBLEMS.items():
        answer = await api(method, path, **options)

        assert (name, answer.status) == (name, status)
        problem = answer.problem
        assert list(problem)[:5] == FIELDS
        assert problem["status"] == status
        assert problem["instance"] == path.partition("?")[0]
        assert problem["detail"].endswith((".", "?")), name
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_refused_method_names_those_that_are_taken(api: Client) -> None:
    """`Allow`, as RFC 9110 wants it."""
    answer = await api("PATCH", "/v1/webhook/create")

    assert answer.headers["Allow"] == "POST"


async def test_a_lost_database_is_no_fault_of_the_caller(postgres_server: EmbeddedPostgres, database: str) -> None:
    """503 with `Retry-After`: nothing was changed; when it is back, all goes on."""
    name = database.partition("?")[0].rpartition("/")[2]
    async with (
        Proxy(postgres_server.socket) as proxy,
        serving_api(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable") as api,
    ):
        before = await api("GET", "/v1/webhook/list")
        await proxy.refuse()

        lost = await api("GET", "/v1/webhook/list")
        await proxy.accept()
        after = await api("GET", "/v1/webhook/list")

        assert (before.status, lost.status, after.status) == (200, 503, 200)
        assert lost.headers["Retry-After"] == "5"
        assert lost.problem["title"] == "The service cannot reach its database"


async def test_what_takes_too_long_is_given_up(database: str, connection: Any) -> None:
    """503 with `Retry-After`, which says so; nobody is told that the database is away."""
    async with serving_api(database, statement_seconds=1.0) as api, connection.transaction():
        await connection.execute("lock table dispatcher.endpoints in access exclusive mode")

        late = await api("GET", "/v1/webhook/list")

    assert late.status == 503
    assert late.headers["Retry-After"] == "5"
    assert (late.problem["type"], late.problem["title"]) == ("/docs#too-slow", "It took too long")


async def test_a_link_for_people_is_made(api: Client) -> None:
    """For the tenant of the call, and for as long as asked."""
    made = await api.ok("POST", "/v1/portal-link", {"expiresInSeconds": 600})
    usual = await api.ok("POST", "/v1/portal-link")

    token = made["url"].partition("/portal/enter?token=")[2]
    assert await api.admin.tenant_of_link(token) == "acme" == made["tenant"]
    assert made["expiresDate"] < usual["expiresDate"]


@pytest.mark.parametrize("seconds", [0, -1, 2592001, "600", None], ids=str)
async def test_a_link_for_too_long_is_refused(api: Client, seconds: Any) -> None:
    """At its place in the body."""
    answer = await api("POST", "/v1/portal-link", {"expiresInSeconds": seconds})

    assert (answer.status, answer.problem["errors"][0]["pointer"]) == (422, "/expiresInSeconds")
