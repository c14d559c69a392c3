"""Reads the form of an endpoint: texts as people type them become what `Admin` takes, and an endpoint becomes texts again."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from multidict import MultiMapping

from dispatcher.admin import EndpointRow, WebhookChanges, WebhookDraft
from dispatcher.errors import InvalidInput
from dispatcher.retry import format_duration

Typed = Mapping[str, Any]
"""What stands in the form: a text for each field, a list where there are several, true or false for a box."""

LISTS: Final = ("signing_profiles",)
"""Boxes of one name."""

BOXES: Final = ("include_descendants", "refuses_wrong_signatures", "new_tenant")

EMPTY: Final[Typed] = MappingProxyType(
    {
        "tenant": "",
        "new_tenant": False,
        "url": "",
        "subscriptions": "",
        "notification_email": "",
        "additional_notification_emails": "",
        "description": "",
        "payload_format": "",
        "signing_profiles": [],
        "filter": "",
        "headers": "",
        "retry_schedule": "",
        "timeout": "",
        "rate_limit": "",
        "warn_after": "",
        "disable_after": "",
        "secret": "",
        "metadata": "",
        "include_descendants": False,
        "preset": "",
        "verification": "",
        "refuses_wrong_signatures": False,
    }
)
"""A form that nobody has filled in."""


def typed(posted: MultiMapping[Any]) -> Typed:
    """Return what was typed into a form that was sent."""
    texts = {
        name: "\n".join(one.strip() for one in posted.getall(name, []) if isinstance(one, str) and one.strip())
        for name in EMPTY
    }
    lists = {name: [one for one in posted.getall(name, []) if isinstance(one, str)] for name in LISTS}
    return {**texts, **lists, **{name: name in posted for name in BOXES}}


def typed_of(endpoint: EndpointRow) -> Typed:
    """Return what would have been typed for an endpoint to be as it is."""
    schedule = endpoint.retry_schedule
    return {
        **EMPTY,
        "tenant": endpoint.tenant,
        "url": endpoint.url,
        "subscriptions": "\n".join(endpoint.subscriptions),
        "notification_email": endpoint.notification_email or "",
        "additional_notification_emails": "\n".join(endpoint.additional_notification_emails),
        "description": endpoint.description or "",
        "payload_format": endpoint.payload_format,
        "signing_profiles": [name for name in endpoint.signing_profiles if name != "standard"],
        "filter": endpoint.filter or "",
        "headers": "\n".join(f"{name}: {value}" for name, value in endpoint.headers.items()),
        "retry_schedule": "" if schedule is None else ", ".join(map(format_duration, schedule)) or "none",
        "timeout": _duration(endpoint.timeout),
        "rate_limit": "" if endpoint.rate_limit is None else f"{endpoint.rate_limit:g}",
        "warn_after": _duration(endpoint.warn_after),
        "disable_after": _duration(endpoint.disable_after),
        "metadata": json.dumps(endpoint.metadata, ensure_ascii=False, indent=2) if endpoint.metadata else "",
        "include_descendants": endpoint.include_descendants,
    }


def draft(given: Typed) -> WebhookDraft:
    """Make a draft of what was typed; what is empty is not given. Raises InvalidInput."""
    return WebhookDraft(
        **{"url": "", "subscriptions": ()}
        | {name: _READERS[name](given[name]) for name in _READERS if given[name] not in ("", [], False)}
    )


def changes(before: Typed, given: Typed) -> WebhookChanges:
    """Make changes of the fields that differ; what is empty is cleared. Raises InvalidInput."""
    settable = [name for name in _READERS if name not in ("secret", "preset")]
    return WebhookChanges(
        **{
            name: _READERS[name](given[name])
            for name in settable
            if _same_ends(given[name]) != _same_ends(before[name])
        }
    )


def _same_ends(value: Any) -> Any:
    """Browsers end lines in forms by CR LF."""
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else value


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _text(text: str) -> str | None:
    return text.replace("\r\n", "\n") or None


def _plain(text: str) -> str:
    return text


def _lines(text: str) -> Sequence[str]:
    """Take a list apart, one a line: a name may hold any other character."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _addresses(text: str) -> Sequence[str]:
    return _lines(text.replace(",", "\n"))


def _profiles(names: Sequence[str]) -> Sequence[str]:
    return list(names) or ["standard"]


def _headers(text: str) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for line in _lines(text):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidInput("Write each header in a line of its own, like `X-Clinic: north`.", field="headers")
        if name.strip() in headers:
            raise InvalidInput(f"The header `{name.strip()[:100]}` is there twice. Keep one.", field="headers")
        headers[name.strip()] = value.strip()
    return headers


def _rate(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise InvalidInput("A rate is a number of requests a second, like 5.", field="rate_limit") from None


def _metadata(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f'That is no JSON: {error}. Write an object, like {{"crm": 17}}.', field="metadata"
        ) from None
    if not isinstance(value, dict):
        raise InvalidInput('That is no JSON object. Write one, like {"crm": 17}.', field="metadata")
    return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "url": _plain,
        "subscriptions": _lines,
        "notification_email": _text,
        "additional_notification_emails": _addresses,
        "description": _text,
        "payload_format": _text,
        "signing_profiles": _profiles,
        "filter": _text,
        "headers": _headers,
        "retry_schedule": _text,
        "timeout": _text,
        "rate_limit": _rate,
        "warn_after": _text,
        "disable_after": _text,
        "secret": _text,
        "metadata": _metadata,
        "include_descendants": bool,
        "preset": _text,
        "verification": _text,
        "refuses_wrong_signatures": bool,
    }
)
"""How each field is read."""
