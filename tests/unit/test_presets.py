"""Presets: what each system's webhooks are set to, and that all of it can be used."""

from random import Random

import pytest

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import WebhookDraft
from dispatcher.admin.checks import settings_of, with_preset
from dispatcher.errors import InvalidInput
from dispatcher.model import Answered, GiveUp, Health, Retry
from dispatcher.payload import is_built_in
from dispatcher.presets import PRESETS
from dispatcher.profiles import known
from dispatcher.retry import DAY, HOUR, HealthChange, health_change, judge
from dispatcher.store.endpoints import EndpointSettings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FAILED = Answered(500, (), b"", body_cut=False, seconds=0.1, address=None)


def settings(name: str, **fields: object) -> EndpointSettings:
    """The settings of a webhook that names a preset."""
    draft = WebhookDraft(url="https://example.com/", subscriptions=["*"], preset=name, **fields)  # type: ignore[arg-type]
    return settings_of(with_preset(draft), https_only=True, policy=AddressPolicy())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_used(name: str) -> None:
    """Its format and profiles are there and go together, and its choices are said."""
    found = settings(name)

    assert is_built_in(found.payload_format)
    known.check(found.signing_profiles, [SECRET], [], {})
    assert PRESETS[name].choices


def test_what_is_given_wins() -> None:
    """A preset fills in; it takes nothing away."""
    found = settings("healthie", retry_schedule="none", signing_profiles=["healthie:hex"], disable_after="5d")

    assert (found.retry_schedule, found.signing_profiles) == ((), ("standard", "healthie:hex"))
    assert (found.warn_after, found.disable_after, found.payload_format) == (DAY, 5 * DAY, "raw")


def test_an_unknown_preset_is_refused() -> None:
    """With what was probably meant."""
    with pytest.raises(InvalidInput, match="Did you mean `healthie`") as refusal:
        settings("healthy")

    assert refusal.value.field == "preset"


def test_healthie_warns_after_a_day_and_disables_after_three() -> None:
    """Counted from the first failure; what fails in between changes nothing."""
    found = settings("healthie")
    assert found.warn_after is not None
    assert found.disable_after is not None
    changes = []
    health = Health(failing_since=0.0)
    for hour in range(1, 80):
        change = health_change(
            health,
            succeeded=False,
            now=hour * HOUR,
            warn_after=found.warn_after,
            disable_after=found.disable_after,
        )
        if change is HealthChange.WARN:
            health = Health(failing_since=0.0, warned_at=hour * HOUR)
        if change is not None:
            changes.append((hour, change))
        if change is HealthChange.DISABLE:
            break

    assert changes == [(24, HealthChange.WARN), (72, HealthChange.DISABLE)]


def test_decoda_makes_seven_attempts_with_the_published_delays() -> None:
    """The delivery dies, and its mail goes out, with the seventh."""
    found = settings("decoda")
    assert found.retry_schedule is not None
    verdicts = [
        judge(
            FAILED,
            attempts=attempts,
            schedule=found.retry_schedule,
            jitter=0.0,
            random=Random(1),
            expires_in=None,
            now=0.0,
        ).verdict
        for attempts in range(7)
    ]

    assert [one.delay for one in verdicts[:6] if isinstance(one, Retry)] == [1, 5, 15, 60, 300, 900]
    assert isinstance(verdicts[6], GiveUp)
