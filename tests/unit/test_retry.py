"""Schedules, verdicts and health: what follows from an attempt."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidInput
from dispatcher.model import (
    Answered,
    Blocked,
    DeathReason,
    Done,
    GiveUp,
    Health,
    Judgement,
    Outcome,
    Pressure,
    Retry,
    Unreachable,
    UnreachableReason,
)
from dispatcher.retry import (
    DEFAULT_SCHEDULE,
    LONGEST_PAUSE,
    PRESETS,
    HealthChange,
    disable_date,
    format_duration,
    health_change,
    jittered,
    judge,
    overdue,
    parse_duration,
    parse_schedule,
    span,
)

NOW = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0


def answered(status: int, **headers: str) -> Answered:
    """Make an answer; `_` in a header's name stands for `-`."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answered(status=status, headers=pairs, body=b"", body_cut=False, seconds=0.1, address="192.0.2.1:443")


def unreachable(reason: UnreachableReason) -> Unreachable:
    """Make an outcome without an answer."""
    return Unreachable(reason=reason, detail="", seconds=15.0, address=None)


BLOCKED = Blocked(detail="10.0.0.1 is private", seconds=0.0, address="10.0.0.1:443")


def judged(
    outcome: Outcome,
    *,
    attempts: int = 0,
    schedule: tuple[float, ...] = DEFAULT_SCHEDULE,
    jitter: float = 0.0,
    expires_in: float | None = None,
) -> Judgement:
    """Judge with the defaults, no jitter unless asked for, at `NOW`."""
    return judge(
        outcome,
        attempts=attempts,
        schedule=schedule,
        jitter=jitter,
        random=Random(1),
        expires_in=expires_in,
        now=NOW,
    )


# durations and schedules


@pytest.mark.parametrize(
    "text, seconds",
    [
        pytest.param("15s", 15, id="seconds"),
        pytest.param("5m", 300, id="minutes"),
        pytest.param("24h", 86400, id="hours"),
        pytest.param("5d", 432000, id="days"),
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("1.5h", 5400, id="fraction"),
        pytest.param("1h30m", 5400, id="sum"),
        pytest.param(" 1H 30M ", 5400, id="case-and-spaces"),
        pytest.param("0s", 0, id="zero"),
        pytest.param("15", 15, id="digits"),
        pytest.param(15, 15, id="int"),
        pytest.param(0.25, 0.25, id="float"),
    ],
)
def test_duration_is_read(text: str | float, seconds: float) -> None:
    """Durations are numbers with units; a bare number is seconds."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "s", "5 x", "-5s", "5s-", "1e3s", "٣s", "five", -1, math.nan, math.inf, "9" * 400, True],
    ids=repr,
)
def test_bad_duration_is_refused_with_an_example(text: str | float) -> None:
    """What is no duration is refused; the message shows one."""
    with pytest.raises(InvalidInput, match='for example "15s"') as caught:
        parse_duration(text, field="timeout")

    assert caught.value.field == "timeout"


@given(st.integers(0, 10**11))
def test_duration_survives_a_round_trip(milliseconds: int) -> None:
    """What `format_duration` writes, `parse_duration` reads."""
    written = format_duration(milliseconds / 1000)

    assert math.isclose(milliseconds / 1000, parse_duration(written), abs_tol=1e-6)


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (0.5, "500ms"), (15, "15s"), (5400, "1h30m"), (432000, "5d"), (90061.001, "1d1h1m1s1ms")],
)
def test_duration_is_written_in_units(seconds: float, text: str) -> None:
    """Durations read as people write them."""
    assert text == format_duration(seconds)


@pytest.mark.parametrize(
    "value, schedule",
    [
        pytest.param("1s,2s, 5m", (1, 2, 300), id="text"),
        pytest.param("Standard", DEFAULT_SCHEDULE, id="preset"),
        pytest.param("none", (), id="no-retries"),
        pytest.param(["1s", 2, 0.5], (1, 2, 0.5), id="list"),
        pytest.param([], (), id="empty-list"),
        pytest.param("7s", (7,), id="single"),
    ],
)
def test_schedule_is_read(value: str | list[str | float], schedule: tuple[float, ...]) -> None:
    """A schedule is a preset's name, a text with commas, or a list."""
    assert schedule == parse_schedule(value)


@pytest.mark.parametrize(
    "value, message",
    [
        pytest.param("", "not a retry schedule", id="empty"),
        pytest.param("1s,,2s", "not a retry schedule", id="gap"),
        pytest.param("exponential", "one of standard, none", id="unknown-preset"),
        pytest.param(["1s", "-2s"], "'-2s' is not a duration", id="negative"),
        pytest.param("1s,31d", "at most 30d; 31d is longer", id="too-long"),
        pytest.param([1] * 51, "at most 50 delays; this one has 51", id="too-many"),
    ],
)
def test_bad_schedule_is_refused_with_the_reason(value: str | list[str | float], message: str) -> None:
    """A refused schedule says what is wrong with it."""
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_schedule(value, field="retrySchedule")

    assert caught.value.field == "retrySchedule"


def test_default_schedule_is_that_of_standard_webhooks() -> None:
    """Ten attempts over 75:35:05, as the specification's example says."""
    assert (len(DEFAULT_SCHEDULE), sum(DEFAULT_SCHEDULE)) == (9, 75 * HOUR + 35 * 60 + 5)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_passes_the_rules_for_schedules(name: str) -> None:
    """Every preset could have been written as a list by a user."""
    schedule = PRESETS[name]

    assert schedule == parse_schedule(list(schedule)) == parse_schedule(name)


def test_three_day_presets_end_within_three_days() -> None:
    """Healthie and Stripe retry for up to three days."""
    assert all(2.5 * DAY < sum(PRESETS[name]) <= 3 * DAY for name in ("healthie", "stripe"))


@given(st.floats(0, 1e6), st.floats(0, 1), st.integers())
def test_jitter_stays_within_its_fraction(delay: float, fraction: float, seed: int) -> None:
    """Jitter moves a delay by at most its fraction, either way, and never below zero."""
    moved = jittered(delay, fraction, Random(seed))

    slack = 1e-9 * delay
    assert max(0, delay * (1 - fraction) - slack) <= moved <= delay * (1 + fraction) + slack


# verdicts


def retry_in(delay: float, pressure: Pressure, pause: float | None = None) -> Judgement:
    """Expect a retry."""
    return Judgement(Retry(delay), pressure, pause=pause)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    """Success is 2xx, whole and alone."""
    assert Judgement(Done(), Pressure.OK) == judged(answered(status))


@pytest.mark.parametrize(
    "outcome, pressure",
    [
        *[
            pytest.param(answered(status, location="/x", retry_after="9"), Pressure.NEUTRAL, id=str(status))
            for status in (100, 199, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 413, 415, 422, 451, 499)
        ],
        *[pytest.param(answered(s), Pressure.STRAINED, id=str(s)) for s in (500, 501, 505, 520, 599, 600, 999)],
        *[pytest.param(answered(s), Pressure.THROTTLED, id=str(s)) for s in (429, 502, 503, 504)],
        *[pytest.param(unreachable(reason), Pressure.HUNG, id=reason) for reason in UnreachableReason],
        pytest.param(BLOCKED, Pressure.NEUTRAL, id="blocked"),
    ],
)
def test_failure_is_retried_by_the_schedule(outcome: Outcome, pressure: Pressure) -> None:
    """All but 2xx and 410 is tried again, and says what it means for the endpoint's load."""
    assert retry_in(5, pressure) == judged(outcome)


def test_each_attempt_has_its_own_delay() -> None:
    """The n-th failure waits for the n-th delay, until none is left."""
    verdicts = [judged(BLOCKED, attempts=n).verdict for n in range(len(DEFAULT_SCHEDULE) + 1)]

    assert [*(Retry(delay) for delay in DEFAULT_SCHEDULE), GiveUp(DeathReason.EXHAUSTED)] == verdicts


def test_410_disables_the_endpoint() -> None:
    """Gone is gone."""
    assert Judgement(GiveUp(DeathReason.GONE), Pressure.NEUTRAL, disable=True) == judged(answered(410))


@pytest.mark.parametrize("name", ["webhook-delivery", "Webhook-Delivery", "WEBHOOK-DELIVERY "])
@pytest.mark.parametrize("value", ["disable", " Disable ", "x, disable", "abort-message,disable"])
def test_header_disables_the_endpoint(name: str, value: str) -> None:
    """`webhook-delivery: disable` is read whatever its case and spaces, and outranks `abort-message`."""
    expected = Judgement(GiveUp(DeathReason.GONE), Pressure.STRAINED, disable=True)

    assert expected == judged(answered(500, **{name: value}))


def test_header_aborts_the_message() -> None:
    """`webhook-delivery: abort-message` ends this delivery alone."""
    expected = Judgement(GiveUp(DeathReason.ABORTED), Pressure.NEUTRAL)

    assert expected == judged(answered(400, webhook_delivery="Abort-Message"))


def test_header_beside_2xx_never_undoes_success() -> None:
    """A delivery that was accepted is done, but a wish to be disabled still counts."""
    aborted = judged(answered(200, webhook_delivery="abort-message"))
    disabled = judged(answered(200, webhook_delivery="disable"))

    assert (Judgement(Done(), Pressure.OK), Judgement(Done(), Pressure.OK, disable=True)) == (aborted, disabled)


def test_unknown_wish_changes_nothing() -> None:
    """Other values of the header are nobody's business."""
    assert retry_in(5, Pressure.STRAINED) == judged(answered(500, webhook_delivery="disabled"))


def http_date(seconds: float) -> str:
    """Write an instant as HTTP does."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    "value, pause",
    [
        pytest.param("120", 120, id="seconds"),
        pytest.param(" 120 ", 120, id="spaces"),
        pytest.param("1.5", 1.5, id="fraction"),
        pytest.param(http_date(NOW + 3600), 3600, id="date"),
        pytest.param("Tuesday, 14-Nov-23 23:13:20 GMT", 3600, id="rfc850-date"),
        pytest.param("Tue Nov 14 23:13:20 2023", 3600, id="asctime-date"),
        pytest.param("999999999", LONGEST_PAUSE, id="long"),
        pytest.param("9" * 400, LONGEST_PAUSE, id="endless"),
        pytest.param(http_date(NOW + 10 * DAY), LONGEST_PAUSE, id="far-date"),
    ],
)
def test_retry_after_pauses_the_endpoint(status: int, value: str, pause: float) -> None:
    """The endpoint rests for as long as it asks, up to 24 h, and the delivery no less."""
    expected = retry_in(max(5, pause), Pressure.THROTTLED, pause)

    assert expected == judged(answered(status, retry_after=value))


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "0", "1e9", "٣", "nan", "inf", "Tue, 99 Nov 2023 99:99:99 GMT", http_date(NOW - 5), "\x00"],
    ids=repr,
)
def test_useless_retry_after_is_ignored(value: str) -> None:
    """What cannot be read, or asks for no wait, leaves the pause to the lane."""
    assert retry_in(5, Pressure.THROTTLED) == judged(answered(503, retry_after=value))


def test_first_readable_retry_after_counts() -> None:
    """A proxy's garbage before the server's number does not hide it."""
    twice = Answered(503, (("Retry-After", "x"), ("retry-after", "7")), b"", body_cut=False, seconds=0, address=None)

    assert retry_in(7, Pressure.THROTTLED, 7) == judged(twice)


def test_pause_stands_although_the_delivery_dies() -> None:
    """The last attempt's `Retry-After` still slows the endpoint."""
    expected = Judgement(GiveUp(DeathReason.EXHAUSTED), Pressure.THROTTLED, pause=60)

    assert expected == judged(answered(429, retry_after="60"), attempts=9)


@pytest.mark.parametrize(
    "outcome, expires_in",
    [
        pytest.param(answered(500), 4.9, id="schedule"),
        pytest.param(answered(500), -1.0, id="already"),
        pytest.param(answered(503, retry_after="60"), 59.0, id="retry-after"),
    ],
)
def test_delivery_dies_when_its_next_attempt_would_be_too_late(outcome: Outcome, expires_in: float) -> None:
    """An event that expires before its next attempt dies at once."""
    assert GiveUp(DeathReason.EXPIRED) == judged(outcome, expires_in=expires_in).verdict


headers = st.lists(
    st.tuples(
        st.sampled_from(["retry-after", "Retry-After", "webhook-delivery", "content-type"]),
        st.one_of(st.text(max_size=40), st.sampled_from(["disable", "abort-message", "30", http_date(NOW + 90)])),
    ),
    max_size=4,
).map(tuple)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(
        Answered,
        status=st.integers(0, 999),
        headers=headers,
        body=st.just(b""),
        body_cut=st.booleans(),
        seconds=st.just(0.0),
        address=st.none(),
    ),
    st.sampled_from(UnreachableReason).map(unreachable),
    st.just(BLOCKED),
)


@given(
    outcome=outcomes,
    attempts=st.integers(0, 12),
    schedule=st.lists(st.floats(0, 1e6), max_size=10),
    jitter=st.floats(0, 1),
    expires_in=st.none() | st.floats(-1e6, 1e6),
    seed=st.integers(),
)
def test_every_outcome_has_a_verdict(
    *,
    outcome: Outcome,
    attempts: int,
    schedule: list[float],
    jitter: float,
    expires_in: float | None,
    seed: int,
) -> None:
    """Whatever arrives is judged; no retry comes after expiry, before the pause ends or past the schedule."""
    judgement = judge(
        outcome,
        attempts=attempts,
        schedule=schedule,
        jitter=jitter,
        random=Random(seed),
        expires_in=expires_in,
        now=NOW,
    )

    assert judgement.pause is None or 0 < judgement.pause <= LONGEST_PAUSE
    assert isinstance(judgement.verdict, Done) == (judgement.pressure is Pressure.OK)
    if isinstance(judgement.verdict, Retry):
        assert attempts < len(schedule)
        assert not judgement.disable
        assert judgement.verdict.delay >= max(0, judgement.pause or 0)
        assert expires_in is None or judgement.verdict.delay < expires_in


def test_delivery_is_overdue_after_the_whole_span() -> None:
    """What could not be tried dies when its schedule, jitter included, would have ended; never within minutes."""
    limit = span(DEFAULT_SCHEDULE, 0.2)

    assert [overdue(age, DEFAULT_SCHEDULE, 0.2) for age in (limit, limit + 1)] == [False, True]
    assert [overdue(age, (1, 2), 0.2) for age in (299, 301)] == [False, True]


# health


def changed(health: Health, *, at: float, succeeded: bool = False, warn: float = DAY) -> HealthChange | None:
    """Record an attempt `at` seconds after `NOW`, with the default limits."""
    return health_change(health, succeeded=succeeded, now=NOW + at, warn_after=warn, disable_after=5 * DAY)


WELL = Health()
FAILING = Health(failing_since=NOW)
WARNED = Health(failing_since=NOW, warned_at=NOW + DAY)
WARNED_LATE = Health(failing_since=NOW, warned_at=NOW + 7 * DAY)


@pytest.mark.parametrize(
    "health, at, change",
    [
        pytest.param(WELL, 0, HealthChange.STARTED_FAILING, id="first-failure"),
        pytest.param(FAILING, DAY - 1, None, id="failing"),
        pytest.param(FAILING, DAY, HealthChange.WARN, id="a-day"),
        pytest.param(FAILING, 7 * DAY, HealthChange.WARN, id="a-week-of-silence-warns-first"),
        pytest.param(WARNED, 5 * DAY - 1, None, id="warned"),
        pytest.param(WARNED, 5 * DAY, HealthChange.DISABLE, id="five-days"),
        pytest.param(WARNED_LATE, 11 * DAY - 1, None, id="late-warning-stands-as-long"),
        pytest.param(WARNED_LATE, 11 * DAY, HealthChange.DISABLE, id="late-warning-ends"),
    ],
)
def test_failure_changes_health(health: Health, at: float, change: HealthChange | None) -> None:
    """Failures start the clock, then warn, then disable, one step at an attempt."""
    assert change == changed(health, at=at)


@pytest.mark.parametrize(
    "health, change",
    [(WELL, None), (FAILING, HealthChange.CLEARED), (WARNED, HealthChange.RECOVERED)],
    ids=["well", "failing", "warned"],
)
def test_success_ends_failing(health: Health, change: HealthChange | None) -> None:
    """A success clears; it is news only after a warning."""
    assert change == changed(health, at=9 * DAY, succeeded=True)


def test_warning_may_be_left_out() -> None:
    """With `warn_after` no shorter than `disable_after`, disabling needs no warning."""
    assert [changed(FAILING, at=at, warn=5 * DAY) for at in (DAY, 5 * DAY)] == [None, HealthChange.DISABLE]


def test_endpoint_that_does_well_has_no_disable_date() -> None:
    """Only a failing endpoint is on its way to be disabled."""
    assert math.inf == disable_date(WELL, warn_after=DAY, disable_after=5 * DAY)


@given(st.lists(st.floats(1, 3 * DAY), min_size=1, max_size=40))
def test_disabling_never_comes_before_the_date_in_the_warning(gaps: list[float]) -> None:
    """However failures are spaced, a warning comes first and its date is kept."""
    health, now, promised = WELL, NOW, math.inf
    for gap in gaps:
        now += gap
        match health_change(health, succeeded=False, now=now, warn_after=DAY, disable_after=5 * DAY):
            case HealthChange.STARTED_FAILING:
                health = Health(failing_since=now)
            case HealthChange.WARN:
                health = Health(failing_since=health.failing_since, warned_at=now)
                promised = disable_date(health, warn_after=DAY, disable_after=5 * DAY)
            case HealthChange.DISABLE:
                assert promised <= now
                return
            case _:
                assert now < promised
