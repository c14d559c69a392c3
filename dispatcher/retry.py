"""Decides what follows from an attempt: when to try again, when to give up, and how an endpoint's health changes.

Everything here is a pure function of its arguments: applying the decision is left to `deliver`, pacing to `lanes`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from random import Random
from types import MappingProxyType
from typing import assert_never

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
    Verdict,
)

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0

LONGEST_PAUSE = 24 * HOUR
"""A `Retry-After` is obeyed up to this: a longer one is a mistake more often than a wish, and outlasts schedules."""

LONGEST_DELAY = 30 * DAY
"""Of a schedule; beyond it lies a typing error (`30d` for `30m`)."""

MOST_DELAYS = 50
"""Of a schedule; every attempt is a row in the log, and no known system makes more than 24."""

SHORTEST_SPAN = 5 * MINUTE
"""A delivery is not called overdue before this: a schedule of seconds says how soon to try again, not that a delivery
that stood in a queue for seconds is worthless."""

THROTTLING = frozenset({429, 502, 503, 504})
"""Statuses by which a server, or the proxy before it, says that it has too much to do (Standard Webhooks, plus 503)."""

SCHEDULE_EXAMPLE = '"5s,5m,30m,2h"'

# Standard Webhooks 1.0.0, "Deliverability and reliability": 10 attempts over 75 h 35 min 5 s.
DEFAULT_SCHEDULE: tuple[float, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

# "Exponential backoff for up to three days" without the steps (Healthie, Stripe live mode): our choice is doubling from
# 4 minutes, 11 attempts over 2 d 20 h, which stays within three days with some jitter.
_THREE_DAYS: tuple[float, ...] = tuple(4 * MINUTE * 2**n for n in range(10))

PRESETS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "standard": DEFAULT_SCHEDULE,
        # One attempt only (GitHub: no automatic redelivery; Healthie with `should_retry` off).
        "none": (),
        # Its documentation names six delays and also "maximum 6 attempts over ~30 minutes", which cannot both be so
        # (six delays make seven attempts over 21 min 21 s). We keep every published delay: no receiver loses a chance.
        "decoda": (1, 5, 15, 60, 300, 900),
        # HealthEngine's booking webhooks: after 5 minutes, 1 hour, 12 hours.
        "healthengine": (300, 3600, 43200),
        "healthie": _THREE_DAYS,
        # NexHealth's developer documentation.
        "nexhealth": (30, 90, 210, 600, 1800, 7200, 18000, 36000, 86400, 172800),
        # 8 retries over 4 hours (since September 2024); the steps are ours and sum to exactly that.
        "shopify": (60, 120, 240, 480, 900, 1800, 3600, 7200),
        # Events API: "nearly immediately" (ours: 1 s), after 1 minute, after 5 minutes.
        "slack": (1, 60, 300),
        "stripe": _THREE_DAYS,
        # The open-source server's `retry_schedule`.
        "svix": (5, 300, 1800, 7200, 18000, 36000, 36000),
    }
)

_UNITS: Mapping[str, float] = MappingProxyType({"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 0.001})
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_duration(text: str | float, *, field: str | None = None) -> float:
    """Read `"15s"`, `"5m"`, `"24h"`, `"5d"`, `"500ms"`, `"1h30m"` or a plain number of seconds.

    Raises InvalidInput, naming `field`, for anything else: negative, endless, or not a duration.
    """
    seconds = math.nan
    if isinstance(text, str):
        wanted = text.strip().lower()
        if _NUMBER.fullmatch(wanted):
            seconds = float(wanted)
        elif _DURATION.fullmatch(wanted):
            seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(wanted))
    elif not isinstance(text, bool):  # `true` in a configuration file is no duration, though Python counts it as 1
        seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        message = f'{text!r} is not a duration. Write a number and a unit (ms, s, m, h, d), for example "15s" or "24h".'
        raise InvalidInput(message, field=field)
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration so that `parse_duration` reads it back, to the millisecond: `5m`, `1h30m`, `500ms`, `0s`."""
    rest = round(seconds * 1000)
    parts = []
    for unit, length in _UNITS.items():
        count, rest = divmod(rest, round(length * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_schedule(
    value: str | Sequence[str | float],
    *,
    field: str | None = None,
) -> tuple[float, ...]:
    """Read a retry schedule: a preset's name, `"1s,2s,5m"`, or a list of durations; the delays between attempts.

    Raises InvalidInput, naming `field`, when it is none of these, too long, or holds a delay over 30 days.
    """
    if isinstance(value, str):
        name = value.strip().lower()
        if name in PRESETS:
            return PRESETS[name]
        parts: Sequence[str | float] = name.split(",")
    else:
        parts = value
    try:
        schedule = tuple(parse_duration(part) for part in parts)
    except InvalidInput as error:
        names = ", ".join(PRESETS)
        message = (
            f"{value!r} is not a retry schedule: {error} A schedule is a list of delays, for example "
            f"{SCHEDULE_EXAMPLE}, or one of {names}."
        )
        raise InvalidInput(message, field=field) from None
    if len(schedule) > MOST_DELAYS:
        message = f"A retry schedule has at most {MOST_DELAYS} delays; this one has {len(schedule)}."
        raise InvalidInput(message, field=field)
    if schedule and max(schedule) > LONGEST_DELAY:
        longest, limit = format_duration(max(schedule)), format_duration(LONGEST_DELAY)
        message = f"A retry schedule's delays are at most {limit}; {longest} is longer. Write {SCHEDULE_EXAMPLE}."
        raise InvalidInput(message, field=field)
    return schedule


def jittered(delay: float, fraction: float, random: Random) -> float:
    """Spread `delay` evenly over ±`fraction` of it, so that what failed together does not return together."""
    return max(0.0, delay * (1 + fraction * random.uniform(-1, 1)))


def judge(
    outcome: Outcome,
    *,
    attempts: int,
    schedule: Sequence[float],
    jitter: float,
    random: Random,
    expires_in: float | None,
    now: float,
) -> Judgement:
    """Decide what follows from an attempt that ended with `outcome`.

    `attempts` counts those recorded before it, `expires_in` is what remains of the event's life at `now`. Follows
    Standard Webhooks' advice to senders: 2xx alone is success, redirects are failures, 410 disables, 429 and the
    gateways' 5xx make the whole endpoint wait. An endpoint may also answer `webhook-delivery: disable` (even with a
    2xx: then this delivery is done, and none follows) or `abort-message` (beside a 2xx it changes nothing).
    """
    pressure = _pressure(outcome)
    pause = None
    wishes = _NO_WISHES
    if isinstance(outcome, Answered):
        wishes = _wishes(outcome)
        if pressure is Pressure.OK and "disable" not in wishes:
            return _ACCEPTED
        if pressure is Pressure.THROTTLED:
            pause = _retry_after(outcome, now=now)
    gone = isinstance(outcome, Answered) and outcome.status == 410  # noqa: PLR2004 - 410 Gone
    disable = gone or "disable" in wishes
    verdict: Verdict
    if pressure is Pressure.OK:
        verdict = Done()
    elif disable:
        verdict = GiveUp(DeathReason.GONE)
    elif "abort-message" in wishes:
        verdict = GiveUp(DeathReason.ABORTED)
    elif attempts >= len(schedule):
        verdict = GiveUp(DeathReason.EXHAUSTED)
    else:
        delay = max(jittered(schedule[attempts], jitter, random), pause or 0.0)
        too_late = expires_in is not None and delay >= expires_in
        verdict = GiveUp(DeathReason.EXPIRED) if too_late else Retry(delay)
    return Judgement(verdict, pressure, pause=pause, disable=disable)


def _pressure(outcome: Outcome) -> Pressure:
    match outcome:
        case Answered(status=status):
            if 200 <= status <= 299:  # noqa: PLR2004 - the class of success, RFC 9110 §15
                return Pressure.OK
            if status in THROTTLING:
                return Pressure.THROTTLED
            return Pressure.STRAINED if status >= 500 else Pressure.NEUTRAL  # noqa: PLR2004 - the server's failures
        case Unreachable():
            return Pressure.HUNG
        case Blocked():
            return Pressure.NEUTRAL
        case _:
            assert_never(outcome)


def _values(outcome: Answered, name: str) -> list[str]:
    length = len(name)  # spares most names the rest: this is asked of every answer
    return [value.strip() for key, value in outcome.headers if len(key) >= length and key.strip().lower() == name]


_NO_WISHES: frozenset[str] = frozenset()
_ACCEPTED = Judgement(Done(), Pressure.OK)
"""Of nearly every attempt."""


def _wishes(outcome: Answered) -> frozenset[str]:
    """Return what the `webhook-delivery` response header asks for (Svix; in lower case)."""
    values = _values(outcome, "webhook-delivery")
    return frozenset(wish.strip().lower() for wish in ",".join(values).split(",")) if values else _NO_WISHES


def _retry_after(outcome: Answered, *, now: float) -> float | None:
    """Read `Retry-After` (RFC 9110 §10.2.3: seconds or a date) as seconds from `now`, at most 24 h.

    None when there is none, or it cannot be read, or asks for no wait at all: then the endpoint's own growing pause
    is the better guess.
    """
    for value in _values(outcome, "retry-after"):
        if _NUMBER.fullmatch(value):
            seconds = float(value)
        else:
            try:
                instant = parsedate_to_datetime(value)
                seconds = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() - now
            except (ValueError, TypeError, IndexError, OverflowError):
                continue
        if seconds > 0:
            return min(seconds, LONGEST_PAUSE)
    return None


def span(schedule: Sequence[float], jitter: float) -> float:
    """Return the longest time from first to last attempt that a schedule can take by itself, seconds."""
    return math.fsum(schedule) * (1 + jitter)


def overdue(age: float, schedule: Sequence[float], jitter: float) -> bool:
    """Tell whether a delivery that could not be tried has waited for longer than its whole schedule would have taken.

    Such a delivery dies as `DeathReason.UNAVAILABLE`. `age` should count from the later of when it was first due and
    when its endpoint began to fail: neither a pause that a person asked for nor an outage of ours is the endpoint's
    unavailability.
    """
    return age > max(span(schedule, jitter), SHORTEST_SPAN)


class HealthChange(StrEnum):
    """What an attempt changes in an endpoint's health."""

    STARTED_FAILING = "started_failing"
    """First failure after a success: `failing_since` is set."""
    WARN = "warn"
    """Nothing but failures for `warn_after`: `warned_at` is set, a notice goes out."""
    DISABLE = "disable"
    """It kept failing after the warning: disabled, pending deliveries die, a notice goes out."""
    RECOVERED = "recovered"
    """First success after a warning: all is cleared, a notice goes out."""
    CLEARED = "cleared"
    """First success after failures that nobody was told of."""


def health_change(
    health: Health,
    *,
    succeeded: bool,
    now: float,
    warn_after: float,
    disable_after: float,
) -> HealthChange | None:
    """Decide what a recorded attempt changes, at most one thing at a time.

    Only attempts count, so an endpoint without traffic is never disabled by the clock alone. Disabling needs a warning
    that has stood for `disable_after - warn_after`: an endpoint that failed once, was silent for a week and fails again
    is warned first, and the date in the warning (`disable_date`) is kept. A `warn_after` that is not shorter than
    `disable_after` means that no warning is wanted. A blocked address is a failure like any other.
    """
    if succeeded:
        if health.failing_since is None:
            return None
        return HealthChange.CLEARED if health.warned_at is None else HealthChange.RECOVERED
    if health.failing_since is None:
        return HealthChange.STARTED_FAILING
    if health.warned_at is None and warn_after < disable_after:
        return HealthChange.WARN if now - health.failing_since >= warn_after else None
    date = disable_date(health, warn_after=warn_after, disable_after=disable_after)
    return HealthChange.DISABLE if now >= date else None


def disable_date(health: Health, *, warn_after: float, disable_after: float) -> float:
    """Return the instant from which a failing endpoint's next failure disables it; infinity while it is not failing."""
    if health.failing_since is None:
        return math.inf
    date = health.failing_since + disable_after
    if health.warned_at is None:
        return date
    return max(date, health.warned_at + disable_after - warn_after)
