"""No tenant sees, changes or can tell the existence of what is another's: on every path that there is."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

from dispatcher.api.app import OPERATIONS, make_app
from dispatcher.api.operations import Operation
from support.admin import attempt, fan_out, pending_of
from support.api import Client, serving_api

PUBLIC = {"/openapi.json", "/docs", "/docs/docs.css", "/asyncapi.json", "/catalog"}
"""The same for all, without a key."""

MISSING: Mapping[str, tuple[str, ...]] = {
    "webhook": ("01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f", "x"),
    "event": ("01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f", "x"),
    "delivery attempt": ("4000000000", "x"),
    "replay": ("01930b6e-8a4c-7cc0-9d3e-0a1b2c3d4e5f", "x"),
}
"""Ids of each sort that lead to nothing."""


async def things_of(api: Client, database: str) -> Mapping[str, tuple[str, ...]]:
    """Make one of each sort that an id in a path can be of, and return their ids."""
    webhook = await api.webhook()
    event = await api.event()
    connection = await asyncpg.connect(database)
    await fan_out(connection)
    delivery = await pending_of(connection, UUID(event))
    await attempt(connection, delivery, status=500, next_in=60)
    await connection.close()
    replay = await api.ok("POST", f"/v1/webhook/{webhook['id']}/replay", {"states": ["dead"]})
    return {
        "webhook": (webhook["id"],),
        "replay": (replay["id"],),
        "event": (event,),
        "delivery attempt": (str(delivery), f"{delivery}-1"),
    }


async def test_every_route_is_an_operation_or_public(database: str) -> None:
    """So that the walks below forget none."""
    app = make_app(None, body_limit=1, rate_limit=0, monotonic=float)  # type: ignore[arg-type]  # nothing is called

    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}

    of_operations = {(operation.method, operation.path) for operation in OPERATIONS}
    assert {route for route in routes if route[0] != "HEAD" and route[1] not in PUBLIC} == of_operations


def test_every_sort_of_id_is_walked() -> None:
    """A new one needs an example here."""
    assert {operation.thing for operation in OPERATIONS if operation.thing} == set(MISSING)
    assert all(("{" in operation.path) == bool(operation.thing) for operation in OPERATIONS)


def by_id(operation: Operation) -> bool:
    """Whether an operation is about one thing."""
    return bool(operation.thing)


async def call(api: Client, operation: Operation, thing: str = "") -> tuple[int, Any]:
    """Call an operation with the least that it takes; what the answer says of the path is left out."""
    answer = await api(operation.method, operation.path.replace("{id}", thing), operation.example)
    body = answer.body
    if isinstance(body, dict):
        body.pop("instance", None)
    return answer.status, body


async def shown(api: Client, things: Mapping[str, tuple[str, ...]]) -> list[tuple[int, Any]]:
    """All that can be seen of some things."""
    seen = [operation for operation in OPERATIONS if operation.method == "GET" and operation.thing]
    return [await call(api, operation, things[operation.thing][0]) for operation in seen]


async def test_anothers_id_answers_exactly_as_a_missing_one(database: str) -> None:
    """404 with the same words, on every path, and nothing is changed by it."""
    async with serving_api(database) as owner:
        stranger = await owner.other("stranger")
        things = await things_of(owner, database)
        before = await shown(owner, things)

        for operation in filter(by_id, OPERATIONS):
            ids = (*things[operation.thing], *MISSING[operation.thing])
            answers = [await call(stranger, operation, thing) for thing in ids]

            assert {status for status, _ in answers} == {404}, operation.name
            assert all(body == answers[0][1] for _, body in answers), operation.name
        assert await shown(owner, things) == before


async def test_the_owner_is_not_answered_so(database: str) -> None:
    """The ids of the test above do lead to something."""
    async with serving_api(database) as owner:
        for operation in filter(by_id, OPERATIONS):
            if operation.name != "testWebhook":  # it would wait for a worker
                things = await things_of(owner, database)

                status, _ = await call(owner, operation, things[operation.thing][0])

                assert status < 300, operation.name


async def test_calls_without_an_id_show_nothing_of_others(database: str) -> None:
    """Lists and creating calls know only whom they are for."""
    async with serving_api(database) as owner:
        stranger = await owner.other("stranger")
        ids = [one for some in (await things_of(owner, database)).values() for one in some]

        for operation in [one for one in OPERATIONS if not by_id(one)]:
            status, body = await call(stranger, operation)

            assert status < 300, operation.name
            # ids of deliveries are too short to be looked for
            assert not [one for one in ids if len(one) > 10 and one in str(body)], operation.name
            assert "acme" not in str(body), operation.name


async def test_an_idempotency_key_is_a_tenants_own(database: str) -> None:
    """Another's answer, secret and all, is not to be had by guessing the key."""
    async with serving_api(database) as owner:
        stranger = await owner.other("stranger")
        headers = {"Idempotency-Key": "guessed"}
        draft = {"url": "https://example.com/", "subscriptions": ["*"]}

        first_answer = await owner("POST", "/v1/webhook/create", draft, headers=headers)
        second_answer = await stranger("POST", "/v1/webhook/create", draft, headers=headers)

        assert second_answer.body["secret"] != first_answer.body["secret"]


def test_aiohttp_takes_fixed_paths_first() -> None:
    """`/v1/webhook/events/{id}` is never taken for a webhook whose id is `events`."""
    app = make_app(None, body_limit=1, rate_limit=0, monotonic=float)  # type: ignore[arg-type]  # nothing is called
    assert isinstance(app, web.Application)

    paths = [resource.canonical for resource in app.router.resources()]

    assert paths.index("/v1/webhook/events/{id}/send") < min(
        place for place, path in enumerate(paths) if path.startswith("/v1/webhook/{id}")
    )
