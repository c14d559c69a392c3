"""Webhooks over HTTP: the published contract to the byte, the optional fields, and every change of state."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.sealing import Sealer, new_key
from dispatcher.signature import new_secret
from support.api import HOOK, Client, serving_api

CREATED = ["createdDate", "id", "notificationEmail", "secret", "subscriptions", "updatedDate", "url"]


@pytest.fixture
async def api(database: str) -> AsyncIterator[Client]:
    """A client of one tenant."""
    async with serving_api(database) as client:
        yield client


async def test_creating_answers_with_exactly_the_published_fields(api: Client) -> None:
    """With an address for notifications: seven fields, names to the byte, no more."""
    draft = {
        "url": HOOK,
        "subscriptions": ["PATIENT_CREATED", "CALL_RECIEVED"],
        "notificationEmail": "it@example.com",
    }

    created = await api("POST", "/v1/webhook/create", draft)

    assert (created.status, list(created.body)) == (200, CREATED)
    assert created.body["notificationEmail"] == "it@example.com"
    assert created.body["subscriptions"] == ["PATIENT_CREATED", "CALL_RECIEVED"]
    assert created.body["url"] == HOOK
    assert created.body["updatedDate"] is None
    assert created.body["secret"].startswith("whsec_")


@pytest.mark.parametrize("given", [{}, {"notificationEmail": None}], ids=["left out", "null"])
async def test_creating_without_an_address_answers_null(api: Client, given: dict[str, None]) -> None:
    """Nobody is told: the field is there, and null."""
    draft = {"url": HOOK, "subscriptions": ["PATIENT_CREATED"]} | given

    created = await api.ok("POST", "/v1/webhook/create", draft)

    assert list(created) == CREATED
    assert created["notificationEmail"] is None


OPTIONS: dict[str, Any] = {
    "additionalNotificationEmails": ["ops@example.com"],
    "description": "The north clinic",
    "disableAfterSeconds": 864000.0,
    "headers": {"X-Clinic": "north"},
    "metadata": {"crm": 17, "nested": {"list": [1, None]}},
    "payloadFormat": "raw",
    "rateLimit": 2.5,
    "retrySchedule": [1.0, 300.0],
    "timeoutSeconds": 4.0,
    "warnAfterSeconds": 3600.0,
}


async def test_optional_fields_come_back_as_they_were_given(api: Client) -> None:
    """Create, get and list show what was set, beside what is always there."""
    created = await api.webhook(**OPTIONS)

    got = await api.ok("GET", f"/v1/webhook/get/{created['id']}")
    (listed,) = await api.ok("GET", "/v1/webhook/list")

    assert {name: created[name] for name in OPTIONS} == OPTIONS
    assert {name: got[name] for name in OPTIONS} == OPTIONS
    assert listed == got


async def test_a_schedule_can_be_a_preset_or_durations(api: Client) -> None:
    """`slack` and `["5s", "1m"]` are read as delays."""
    preset = await api.webhook(retrySchedule="slack")
    durations = await api.webhook(retrySchedule=["5s", "1m"])

    assert len(preset["retrySchedule"]) > 1
    assert durations["retrySchedule"] == [5.0, 60.0]


async def test_the_secret_is_shown_by_create_and_by_its_own_call_only(api: Client) -> None:
    """Neither get, nor list, nor any change repeats it."""
    created = await api.webhook()
    one = f"/v1/webhook/{created['id']}"

    shown = await api.ok("GET", f"{one}/secret")
    others = [
        await api("GET", f"/v1/webhook/get/{created['id']}"),
        await api("GET", "/v1/webhook/list"),
        await api("PUT", f"/v1/webhook/update/{created['id']}", {"description": "x"}),
        await api("POST", f"{one}/pause"),
    ]

    assert shown["secret"] == created["secret"]
    assert all(created["secret"] not in str(other.body) for other in others)


async def test_an_own_secret_can_be_brought(api: Client) -> None:
    """For migration from another system."""
    secret = new_secret()

    created = await api.webhook(secret=secret)

    assert created["secret"] == secret


async def test_the_same_url_can_be_registered_twice(api: Client) -> None:
    """They are two webhooks."""
    first, second = await api.webhook(), await api.webhook()

    assert first["id"] != second["id"]


async def test_rotating_keeps_the_old_secret_for_the_overlap(api: Client) -> None:
    """Both are in use; with an overlap of 0 only the new one is."""
    created = await api.webhook()
    path = f"/v1/webhook/{created['id']}/secret/rotate"

    rotated = await api.ok("POST", path)
    at_once = await api.ok("POST", path, {"overlapSeconds": 0})
    too_long = await api("POST", path, {"overlapSeconds": 604801})

    assert [secret["secret"] for secret in rotated["secrets"]] == [rotated["secret"], created["secret"]]
    assert [secret["expiresDate"] is None for secret in rotated["secrets"]] == [True, False]
    assert [secret["secret"] for secret in at_once["secrets"]] == [at_once["secret"]]
    assert too_long.problem["detail"] == "`overlapSeconds` must be at most 604800."


async def test_an_update_changes_what_is_given_and_nothing_else(api: Client) -> None:
    """Null clears; `updatedDate` says that a person changed it."""
    created = await api.webhook(description="old", notificationEmail="it@example.com", rateLimit=5)
    path = f"/v1/webhook/update/{created['id']}"

    updated = await api.ok("PUT", path, {"notificationEmail": None, "subscriptions": ["A.b"]})

    assert (updated["notificationEmail"], updated["subscriptions"]) == (None, ["A.b"])
    assert (updated["description"], updated["rateLimit"], updated["url"]) == ("old", 5, HOOK)
    assert updated["updatedDate"] is not None


async def test_null_is_no_url(api: Client) -> None:
    """What cannot be cleared is refused."""
    created = await api.webhook()

    answer = await api("PUT", f"/v1/webhook/update/{created['id']}", {"url": None})

    assert answer.status == 422
    assert answer.problem["errors"] == [{"detail": "`url` must be a text.", "pointer": "/url"}]


async def test_deleting_archives(api: Client) -> None:
    """It leaves the list unless asked for, can be looked at, and cannot be changed any more."""
    created = await api.webhook()

    deleted = await api.ok("DELETE", f"/v1/webhook/delete/{created['id']}")
    again = await api("DELETE", f"/v1/webhook/delete/{created['id']}")

    assert deleted["isArchived"]
    assert again.status == 200
    assert await api.ok("GET", "/v1/webhook/list") == []
    assert [row["id"] for row in await api.ok("GET", "/v1/webhook/list?include_archived=true")] == [created["id"]]
    assert (await api("POST", f"/v1/webhook/{created['id']}/pause")).status == 409
    assert (await api("PUT", f"/v1/webhook/update/{created['id']}", {"description": "x"})).status == 409


async def test_states_change_as_asked(api: Client) -> None:
    """Pause and resume, disable and enable; what does not fit is a conflict that says what to do first."""
    one = f"/v1/webhook/{(await api.webhook())['id']}"

    states = [
        (await api.ok("POST", f"{one}/{action}"))["state"]
        for action in ("pause", "pause", "resume", "disable", "enable")
    ]
    await api.ok("POST", f"{one}/disable")
    conflict = await api("POST", f"{one}/pause")

    assert states == ["paused", "paused", "active", "disabled", "active"]
    assert conflict.status == 409
    assert f"`POST {one}/enable`" in conflict.problem["detail"]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "http": ({"url": "http://example.com/"}, "/url", "https"),
    "user in the URL": ({"url": "https://user:pass@example.com/"}, "/url", "user name"),
    "private address": ({"url": "https://10.1.2.3/"}, "/url", "private"),
    "metadata address": ({"url": "https://169.254.169.254/latest"}, "/url", "link-local"),
    "port": ({"url": "https://example.com:0/"}, "/url", "port"),
    "port of mail": ({"url": "https://example.com:25/"}, "/url", "another protocol"),
    "no URL": ({"url": "nonsense"}, "/url", "whole"),
    "no subscriptions": ({"subscriptions": []}, "/subscriptions", "1 or more"),
    "bad pattern": ({"subscriptions": ["a*b"]}, "/subscriptions", "pattern"),
    "bad address": ({"notificationEmail": "nobody"}, "/notificationEmail", "address"),
    "wrong type": ({"subscriptions": [1]}, "/subscriptions/0", "text"),
    "unknown field": ({"notification_email": "it@example.com"}, "/notification_email", "`notificationEmail`"),
    "unknown, near nothing": ({"qqqq": 1}, "/qqqq", "There are:"),
    "schedule": ({"retrySchedule": "never"}, "/retrySchedule", "standard, none, decoda"),
    "inside a schedule": ({"retrySchedule": [1, None]}, "/retrySchedule/1", "number"),
    "timeout": ({"timeoutSeconds": 999}, "/timeoutSeconds", "120"),
    "rate": ({"rateLimit": 0}, "/rateLimit", "more than 0"),
    "reserved header": ({"headers": {"Host": "x"}}, "/headers", "Host"),
    "secret": ({"secret": "short"}, "/secret", "whsec_"),
    "format": ({"payloadFormat": "xml"}, "/payloadFormat", "xml"),
    "profile": ({"signingProfiles": ["x"]}, "/signingProfiles", "x"),
    "metadata": ({"metadata": {"a": "x" * 20_000}}, "/metadata", "bytes"),
}


async def test_a_wrong_value_is_refused_with_its_place_and_reason(api: Client) -> None:
    """Checked at the door: 422, a pointer to the field, and words that say how to mend it."""
    for name, (given, pointer, said) in REFUSED.items():
        answer = await api("POST", "/v1/webhook/create", {"url": HOOK, "subscriptions": ["*"]} | given)

        assert answer.status == 422, name
        (wrong,) = answer.problem["errors"]
        assert (name, wrong["pointer"]) == (name, pointer)
        assert said in wrong["detail"], name


async def test_all_wrong_values_are_named_at_once(api: Client) -> None:
    """One round is enough to mend them."""
    answer = await api("POST", "/v1/webhook/create", {"ur": HOOK, "subscriptions": "x"})

    assert {wrong["pointer"] for wrong in answer.problem["errors"]} == {"/url", "/ur", "/subscriptions"}


async def test_under_an_idempotency_key_one_webhook_is_created(database: str) -> None:
    """The second call answers as the first did, secret included, though secrets are sealed at rest."""
    async with serving_api(database, sealer=Sealer([new_key()])) as api:
        headers = {"Idempotency-Key": str(uuid4())}
        draft = {"url": HOOK, "subscriptions": ["*"]}

        first = await api("POST", "/v1/webhook/create", draft, headers=headers)
        second = await api("POST", "/v1/webhook/create", draft, headers=headers)

        assert second.body == first.body
        assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (False, "true")
        assert len(await api.ok("GET", "/v1/webhook/list")) == 1


async def test_under_an_idempotency_key_a_secret_is_rotated_once(api: Client) -> None:
    """A repeated call does not push the old secret out."""
    path = f"/v1/webhook/{(await api.webhook())['id']}/secret/rotate"

    first = await api.ok("POST", path, headers={"Idempotency-Key": "r"})
    second = await api.ok("POST", path, headers={"Idempotency-Key": "r"})

    assert second == first


async def test_what_asks_the_subscriber_first_is_done_once_all_the_same(api: Client) -> None:
    """Outside of any transaction, and remembered when it is done."""
    headers = {"Idempotency-Key": "asks"}
    draft = {"url": HOOK, "subscriptions": ["*"], "verification": "none"}

    first = await api("POST", "/v1/webhook/create", draft, headers=headers)
    second = await api("POST", "/v1/webhook/create", draft, headers=headers)
    another = await api("POST", "/v1/webhook/create", draft | {"description": "x"}, headers=headers)

    assert (first.status, second.status, another.status) == (200, 200, 422)
    assert second.body == first.body
    assert len(await api.ok("GET", "/v1/webhook/list")) == 1


async def test_an_idempotency_key_stands_for_one_request(api: Client) -> None:
    """With another body it is refused; a refused request leaves it free; another tenant has its own."""
    headers = {"Idempotency-Key": "one"}
    draft = {"url": HOOK, "subscriptions": ["*"]}
    other = await api.other("other")

    refused = await api("POST", "/v1/webhook/create", {"url": "http://x", "subscriptions": ["*"]}, headers=headers)
    first = await api("POST", "/v1/webhook/create", draft, headers=headers)
    another = await api("POST", "/v1/webhook/create", draft | {"description": "x"}, headers=headers)
    elsewhere = await other("POST", "/v1/webhook/create", draft, headers=headers)

    assert (refused.status, first.status, another.status, elsewhere.status) == (422, 200, 422, 200)
    assert another.problem["errors"][0]["header"] == "Idempotency-Key"
    assert elsewhere.body["id"] != first.body["id"]
