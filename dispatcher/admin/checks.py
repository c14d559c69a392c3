"""Checks what people hand in, field by field; every refusal is an `InvalidInput` that says how to mend it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import orjson

from dispatcher.addresses import AddressPolicy, check_url
from dispatcher.admin.inputs import Unset, WebhookChanges, WebhookDraft
from dispatcher.errors import InvalidInput
from dispatcher.filters import check_filter
from dispatcher.mailer import check_email
from dispatcher.presets import preset
from dispatcher.profiles.declared import RESERVED
from dispatcher.profiles.known import are_standard, put_in_order
from dispatcher.retry import parse_duration, parse_schedule
from dispatcher.signature import check_secret, key_of
from dispatcher.store.endpoints import EndpointSettings

MOST_CHARACTERS = 255
"""Of names and event types, as in the outbox."""
MOST_SUBSCRIPTIONS = 1000
"""Far more than any catalogue has types; `*` is the better way to say so."""
MOST_EMAILS = 10
"""Beside the first: who wants more has a mailing list."""
MOST_HEADERS = 50
MOST_HEADER_CHARACTERS = 8000
"""Of all names and values together: servers refuse heads of more than about that."""
MOST_METADATA_BYTES = 16384
MOST_DESCRIPTION_CHARACTERS = 1000
LONGEST_TIMEOUT = 120.0
"""Seconds: a request in flight holds a place; a receiver that needs longer should answer first and work later."""
HIGHEST_RATE = 10_000.0
"""Requests per second; about what one worker can send."""
LONGEST_OVERLAP = 7 * 86400.0
"""Seconds that a rotated secret may go on signing: the promise of the tenants' API."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
DEFAULT_FORMAT = "standard"
"""For whom neither the webhook nor its tenant names one."""


def name(text: str, *, field: str, what: str) -> str:
    """Check a name that people choose: 1 to 255 characters, no control characters, no blanks around it."""
    if not text.strip() or len(text) > MOST_CHARACTERS or not _is_clean(text) or text != text.strip():
        raise InvalidInput(
            f"{what} is 1 to {MOST_CHARACTERS} characters, none of them a control character, with no blanks around it.",
            field=field,
        )
    return text


def _is_clean(text: str) -> bool:
    """No control characters (as the outbox has it), and nothing that UTF-8 cannot say."""
    return not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text)


def is_storable(text: str) -> bool:
    """Tell whether Postgres can store a text: no NUL, and nothing that UTF-8 cannot say."""
    return not re.search(r"[\x00\ud800-\udfff]", text)


def description(text: str | None) -> str | None:
    """Check a free text; an empty one is none."""
    if not text:
        return None
    if len(text) > MOST_DESCRIPTION_CHARACTERS or not _is_clean(text.replace("\n", " ").replace("\t", " ")):
        raise InvalidInput(
            f"A description is at most {MOST_DESCRIPTION_CHARACTERS} characters, none of them a control character.",
            field="description",
        )
    return text


def with_preset(draft: WebhookDraft) -> WebhookDraft:
    """Return a draft with its preset filled in where nothing else is given; raises InvalidInput for an unknown one."""
    if draft.preset is None:
        return draft
    bare = WebhookDraft(url="", subscriptions=())
    wanted = preset(draft.preset).settings
    left = {name: value for name, value in wanted.items() if getattr(draft, name) == getattr(bare, name)}
    return replace(draft, **left)


def settings_of(draft: WebhookDraft, *, https_only: bool, policy: AddressPolicy) -> EndpointSettings:
    """Check a draft; the secret is checked, but kept apart from the settings.

    Whether its payload format and signing profiles are there, and go together, only the database knows.
    """
    retry_schedule, timeout = draft.retry_schedule, draft.timeout
    signing_profiles = put_in_order(draft.signing_profiles)
    if draft.secret is not None:
        secret(draft.secret, signing_profiles)
    return EndpointSettings(
        url=check_url(draft.url, https_only=https_only, policy=policy),
        subscriptions=subscriptions(draft.subscriptions),
        description=description(draft.description),
        notification_email=_email(draft.notification_email),
        additional_notification_emails=_emails(draft.additional_notification_emails),
        payload_format=draft.payload_format or DEFAULT_FORMAT,
        signing_profiles=signing_profiles,
        filter=check_filter(draft.filter),
        headers=_headers(draft.headers),
        retry_schedule=None if retry_schedule is None else parse_schedule(retry_schedule, field="retry_schedule"),
        timeout=None if timeout is None else _timeout(timeout),
        rate_limit=rate(draft.rate_limit, field="rate_limit"),
        warn_after=_span(draft.warn_after, field="warn_after"),
        disable_after=_span(draft.disable_after, field="disable_after"),
        metadata=_metadata(draft.metadata),
        include_descendants=draft.include_descendants,
    )


def changed(
    current: EndpointSettings, changes: WebhookChanges, *, https_only: bool, policy: AddressPolicy
) -> EndpointSettings:
    """Check changes, and return the settings with them made. What stays is not judged again."""
    given: dict[str, Any] = {
        one.name: value
        for one in fields(EndpointSettings)
        if not isinstance(value := getattr(changes, one.name), Unset)
    }
    # what is not given gets a value that passes, and is left out again below
    draft = WebhookDraft(**({"url": "https://example.com/", "subscriptions": ["*"]} | given))
    checked = settings_of(draft, https_only=https_only, policy=policy)
    kept = {one.name: getattr(current, one.name) for one in fields(EndpointSettings)}
    return replace(EndpointSettings(**kept), **{key: getattr(checked, key) for key in given})


def subscriptions(texts: Sequence[str]) -> tuple[str, ...]:
    """Check event types and patterns; duplicates are folded, the order stays."""
    if isinstance(texts, str):
        texts = [texts]
    if not texts:
        raise InvalidInput(
            "A webhook needs at least one subscription: an event type like `appointment.created`, a pattern like "
            "`appointment.*`, or `*` for all.",
            field="subscriptions",
        )
    return patterns(texts, field="subscriptions", what="A subscription")


def patterns(texts: Sequence[str], *, field: str, what: str) -> tuple[str, ...]:
    """Check event types and patterns, of a subscription or a filter."""
    folded = tuple(dict.fromkeys(texts))
    if len(folded) > MOST_SUBSCRIPTIONS:
        raise InvalidInput(
            f"At most {MOST_SUBSCRIPTIONS} subscriptions can be given. Use a pattern, or `*` for all.", field=field
        )
    for pattern in folded:
        name(pattern, field=field, what=what)
        if (
            "*" in pattern
            and pattern != "*"
            and (not pattern.endswith(".*") or pattern.count("*") > 1 or pattern == ".*")
        ):
            raise InvalidInput(
                f"`{pattern}` is no pattern: `*` stands alone, or last and behind a full stop, as in `appointment.*`.",
                field=field,
            )
    return folded


def _email(address: str | None) -> str | None:
    return check_email(address, "notification_email") if address else None


def _emails(addresses: Sequence[str]) -> tuple[str, ...]:
    field = "additional_notification_emails"
    folded = tuple(dict.fromkeys(check_email(address, field) for address in addresses))
    if len(folded) > MOST_EMAILS:
        raise InvalidInput(
            f"A webhook has at most {MOST_EMAILS} additional addresses. Use a mailing list.", field=field
        )
    return folded


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    if (
        len(headers) > MOST_HEADERS
        or sum(len(key) + len(value) for key, value in headers.items()) > MOST_HEADER_CHARACTERS
    ):
        raise _header(f"A webhook has at most {MOST_HEADERS} headers, of {MOST_HEADER_CHARACTERS} characters in all.")
    seen: set[str] = set()
    for key, value in headers.items():
        if not _HEADER_NAME.fullmatch(key):
            raise _header(f"`{key[:100]!r}` is not a header's name: letters, digits and `-`.")
        if RESERVED.fullmatch(key.lower()):
            raise _header(f"The header `{key}` is for the dispatcher itself or for proxies to set. Leave it out.")
        if not _HEADER_VALUE.fullmatch(value):  # the value may be a credential: it is not repeated
            raise _header(f"The value of the header `{key}` is empty, or not printable ASCII with no blanks around it.")
        if key.lower() in seen:
            raise _header(f"The header `{key}` is there twice. Keep one.")
        seen.add(key.lower())
    return dict(headers)


def _header(message: str) -> InvalidInput:
    return InvalidInput(message, field="headers")


def _timeout(value: str | float) -> float:
    seconds = parse_duration(value, field="timeout")
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise InvalidInput(
            f'A timeout is more than 0 s and at most {LONGEST_TIMEOUT:g} s, like "10s".', field="timeout"
        )
    return seconds


def rate(value: float | None, *, field: str) -> float | None:
    """Check how many a second."""
    if value is None:
        return None
    if not (math.isfinite(value) and 0 < value <= HIGHEST_RATE):
        raise InvalidInput(
            f"A rate is a number of requests per second, more than 0 and at most {HIGHEST_RATE:g}.", field=field
        )
    return float(value)


def _span(value: str | float | None, *, field: str) -> float | None:
    return None if value is None else parse_duration(value, field=field)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        written = orjson.dumps(dict(metadata))
    except TypeError as error:
        raise InvalidInput(f"The metadata is not a JSON object: {error}.", field="metadata") from None
    if len(written) > MOST_METADATA_BYTES:
        raise InvalidInput(f"The metadata is more than {MOST_METADATA_BYTES} bytes as JSON.", field="metadata")
    if b"\\u0000" in written:
        raise InvalidInput("The metadata holds a NUL character, which Postgres cannot store.", field="metadata")
    return dict(metadata)


def secret(text: str, signing_profiles: Sequence[str]) -> None:
    """Check a secret that somebody brings along: one of Standard Webhooks, or for a signing profile any text."""
    if are_standard(signing_profiles):
        key_of(text)
    else:
        check_secret(text)


def overlap(seconds: float) -> float:
    """Check how long an old secret may go on."""
    if not 0 <= seconds <= LONGEST_OVERLAP:
        raise InvalidInput('The overlap is 0 to 7 days, like "24h" or "0s".', field="overlap")
    return seconds
