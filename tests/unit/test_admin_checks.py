"""What people hand in, checked field by field."""

from dataclasses import replace
from typing import Any

import pytest

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import WebhookChanges, WebhookDraft
from dispatcher.admin.checks import changed, settings_of
from dispatcher.errors import InvalidInput
from dispatcher.store.endpoints import EndpointSettings

DRAFT = WebhookDraft(url="https://example.com/hook", subscriptions=["appointment.created", "visit.*"])


def check(draft: WebhookDraft) -> EndpointSettings:
    """Check by the rules of the default configuration."""
    return settings_of(draft, https_only=True, policy=AddressPolicy())


@pytest.mark.parametrize(
    "fields, field",
    [
        pytest.param({"url": "http://example.com"}, "url", id="no https"),
        pytest.param({"url": "https://a:b@example.com"}, "url", id="userinfo"),
        pytest.param({"url": "https://127.0.0.1/"}, "url", id="loopback"),
        pytest.param({"subscriptions": []}, "subscriptions", id="no subscription"),
        pytest.param({"subscriptions": ["a*"]}, "subscriptions", id="star inside a segment"),
        pytest.param({"subscriptions": ["a.*.b"]}, "subscriptions", id="star in the middle"),
        pytest.param({"subscriptions": ["*.*"]}, "subscriptions", id="two stars"),
        pytest.param({"subscriptions": ["*.created"]}, "subscriptions", id="star in front"),
        pytest.param({"subscriptions": [".*"]}, "subscriptions", id="star behind nothing"),
        pytest.param({"subscriptions": [""]}, "subscriptions", id="empty"),
        pytest.param({"subscriptions": ["a\n"]}, "subscriptions", id="line break"),
        pytest.param({"subscriptions": ["x" * 256]}, "subscriptions", id="too long"),
        pytest.param({"notification_email": "nobody"}, "notification_email", id="no e-mail"),
        pytest.param({"additional_notification_emails": ["x"]}, "additional_notification_emails", id="no other e-mail"),
        pytest.param({"signing_profiles": ["without-standard"]}, "signing_profiles", id="no signature"),
        pytest.param({"filter": "payload."}, "filter", id="filter"),
        pytest.param({"retry_schedule": "soon"}, "retry_schedule", id="schedule"),
        pytest.param({"timeout": "10m"}, "timeout", id="long timeout"),
        pytest.param({"timeout": 0}, "timeout", id="no timeout"),
        pytest.param({"rate_limit": 0}, "rate_limit", id="no rate"),
        pytest.param({"rate_limit": float("nan")}, "rate_limit", id="rate that is no number"),
        pytest.param({"warn_after": "x"}, "warn_after", id="warn_after"),
        pytest.param({"disable_after": "x"}, "disable_after", id="disable_after"),
        pytest.param({"headers": {"Host": "x"}}, "headers", id="reserved header"),
        pytest.param({"headers": {"X-Forwarded-For": "10.0.0.1"}}, "headers", id="header of proxies"),
        pytest.param({"headers": {"Webhook-Id": "x"}}, "headers", id="signed header"),
        pytest.param({"headers": {"A B": "x"}}, "headers", id="header name"),
        pytest.param({"headers": {"A": "x\r\nB: y"}}, "headers", id="header injection"),
        pytest.param({"headers": {"A": "1", "a": "2"}}, "headers", id="header twice"),
        pytest.param({"metadata": {"a": "\x00"}}, "metadata", id="NUL in metadata"),
        pytest.param({"metadata": {"a": object()}}, "metadata", id="metadata that is no JSON"),
        pytest.param({"metadata": {"a": "x" * 20000}}, "metadata", id="much metadata"),
        pytest.param({"description": "\x00"}, "description", id="NUL in description"),
        pytest.param({"secret": "whsec_short"}, "secret", id="weak secret"),
        pytest.param({"secret": "short", "signing_profiles": ["decoda"]}, "secret", id="weak secret of another system"),
    ],
)
def test_a_bad_field_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    """Each refusal names its field."""
    with pytest.raises(InvalidInput) as refused:
        check(replace(DRAFT, **fields))

    assert refused.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "whsec_swordfish"},
        {"secret": "swordfish\n", "signing_profiles": ["hero"]},
        {"headers": {"A": "swordfish\n"}},
    ],
    ids=["secret", "foreign secret", "header"],
)
def test_what_may_be_a_credential_is_not_repeated(fields: dict[str, Any]) -> None:
    """Messages never hold a secret or the value of a header."""
    with pytest.raises(InvalidInput) as refused:
        check(replace(DRAFT, **fields))

    assert "swordfish" not in str(refused.value)


def test_duplicate_subscriptions_are_folded() -> None:
    """Named twice is subscribed once, in the order given."""
    assert check(replace(DRAFT, subscriptions=["b", "a.*", "b", "*"])).subscriptions == ("b", "a.*", "*")


def test_empty_texts_are_none() -> None:
    """An empty e-mail address or description is none."""
    checked = check(replace(DRAFT, notification_email="", description=""))

    assert (checked.notification_email, checked.description) == (None, None)


def test_changes_leave_the_rest_as_it_was() -> None:
    """Only what is given changes; null clears."""
    current = check(replace(DRAFT, description="old", rate_limit=2, retry_schedule="1s"))

    after = changed(
        current, WebhookChanges(rate_limit=None, subscriptions=["x"]), https_only=True, policy=AddressPolicy()
    )

    assert after == replace(current, rate_limit=None, subscriptions=("x",))
