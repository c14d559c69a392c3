"""Presets: one name that sets a webhook up as the system did that its subscriber comes from.

A preset only fills in what was not given; what comes out is written down with the webhook and never changes with a
release. Where a system's sources disagree or are silent, the choice is said here, and in the webhook it is one setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from dispatcher.errors import InvalidInput
from dispatcher.retry import DAY, HOUR


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings of a webhook, by the names of its fields."""

    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    """What its sources leave open, and how it is settled here."""


def _health(warn_after: float, disable_after: float) -> Mapping[str, float]:
    return {"warn_after": warn_after, "disable_after": disable_after}


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "standard": Preset(
            "Standard Webhooks, as the configuration has all else.",
            choices=("For a webhook whose tenant has another preset.",),
        ),
        "healthie": Preset(
            "Healthie: thin bodies as inserted, its signature, retries for 3 days, mail after 24 h, disabled after 3 days.",
            {
                "payload_format": "raw",
                "signing_profiles": ("healthie",),
                "retry_schedule": "healthie",
                **_health(24 * HOUR, 3 * DAY),
            },
            (
                "The steps of its exponential backoff are not published: doubling from 4 minutes.",
                (
                    "The digest's form is not documented: padded base64, as seen in live traffic. A receiver that follows the "
                    "documentation's sample needs `healthie:base64-nopad` or `healthie:hex`."
                ),
                "A webhook with its retries off has the schedule `none`.",
            ),
        ),
        "decoda": Preset(
            "Decoda Health: {id, type, data, createdDate, alertId}, Decoda-Signature, retries for 21 minutes.",
            {"payload_format": "decoda/1.0", "signing_profiles": ("decoda",), "retry_schedule": "decoda"},
            (
                (
                    'Six delays are published beside "maximum 6 attempts over ~30 minutes"; they make 7 attempts over 21 min '
                    "21 s. Every published delay is kept."
                ),
                "Disabling is not documented: the configured health rule holds.",
            ),
        ),
        "hero": Preset(
            "Hero Health: thin bodies as inserted, X-Herohealth-Timestamp and X-Herohealth-Signature.",
            {"payload_format": "raw", "signing_profiles": ("hero",)},
            (
                "The signature is taken to be hexadecimal.",
                "Retries and disabling are not documented: the configured schedule and health rule hold.",
            ),
        ),
        "vsee": Preset(
            "VSee Clinic, version 2.0: clinic_code, integer times, status as a word.",
            {"payload_format": "vsee/2.0"},
            ("Signature, retries and disabling are not documented: Standard Webhooks and the configured rules hold.",),
        ),
        "vsee-1.0": Preset(
            "VSee Clinic, version 1.0: account_code, times as strings, status as a number in a string.",
            {"payload_format": "vsee/1.0"},
            ("As for `vsee`. Its documentation says that it will be deprecated.",),
        ),
        "stripe": Preset(
            "Stripe: bodies as inserted, Stripe-Signature, retries for 3 days.",
            {"payload_format": "raw", "signing_profiles": ("stripe",), "retry_schedule": "stripe"},
            (
                "The steps of its exponential backoff are not published: doubling from 4 minutes.",
                "When it disables is said in its mail alone: the configured health rule holds.",
            ),
        ),
        "github": Preset(
            "GitHub: bodies as inserted, X-Hub-Signature-256, 10 s, no retries.",
            {
                "payload_format": "raw",
                "signing_profiles": ("github",),
                "retry_schedule": "none",
                "timeout": 10.0,
            },
            ("It never disables; the configured health rule holds here.",),
        ),
        "shopify": Preset(
            "Shopify: bodies as inserted, X-Shopify-Hmac-SHA256, 5 s, 8 retries over 4 hours, then disabled.",
            {
                "payload_format": "raw",
                "signing_profiles": ("shopify",),
                "retry_schedule": "shopify",
                "timeout": 5.0,
                **_health(HOUR, 4 * HOUR),
            },
            (
                "It deletes the subscription after 8 failures in a row: here it is disabled after as long a time.",
                "When its warning mails come is not published: after an hour.",
                (
                    "The tenant is taken for the shop's domain; an own header X-Shopify-Shop-Domain says otherwise. "
                    "X-Shopify-API-Version is an own header, too."
                ),
            ),
        ),
        "slack": Preset(
            "Slack: bodies as inserted, X-Slack-Signature, 3 s, 3 retries.",
            {
                "payload_format": "raw",
                "signing_profiles": ("slack",),
                "retry_schedule": "slack",
                "timeout": 3.0,
                **_health(HOUR, HOUR),
            },
            (
                "It disables when less than 5 % succeed within an hour: here, when nothing does.",
                (
                    "X-Slack-Retry-Num and X-Slack-Retry-Reason are not sent: the `webhook-id` tells a repetition. "
                    "X-Slack-No-Retry of an answer is not read, but `webhook-delivery: abort-message` is."
                ),
            ),
        ),
        "nexhealth": Preset(
            "NexHealth: retries up to 48 h, disabled after 48 h of errors.",
            {"retry_schedule": "nexhealth", **_health(24 * HOUR, 48 * HOUR)},
            ("Its signature is not built in.",),
        ),
        "svix": Preset(
            "Svix: Standard Webhooks, its retries, disabled after 5 days.",
            {"retry_schedule": "svix", "timeout": 15.0, **_health(24 * HOUR, 5 * DAY)},
            ("It sends no warning of its own: here one is sent after 24 h.",),
        ),
    }
)


def preset(name: str) -> Preset:
    """Return a preset; raises InvalidInput, which names near misses."""
    if name in PRESETS:
        return PRESETS[name]
    near = get_close_matches(name, PRESETS, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(PRESETS)}."
    raise InvalidInput(f"There is no preset `{name[:100]}`. {hint}", field="preset")
