"""Puts what `admin` says to people at a command line into the words of HTTP: the same help, by the means at hand."""

import re
from typing import Final

Translation = tuple[re.Pattern[str], str]

_COMMANDS: Final[tuple[Translation, ...]] = tuple(
    (re.compile(pattern), call)
    for pattern, call in (
        (r"`dispatcher webhook (\w+) (\S+)`", r"`POST /v1/webhook/\2/\1`"),
        (r"`dispatcher webhook list`", "`GET /v1/webhook/list`"),
        (r"`dispatcher delivery retry (\S+)`", r"`POST /v1/webhook/events/\1/send`"),
        (r"`dispatcher delivery list` shows them", "`GET /v1/webhook/{id}/delivery-attempts/list` shows a webhook's"),
        (r"`dispatcher replay list` shows all", "`GET /v1/webhook/{id}/replay/list` shows a webhook's"),
        (r"`dispatcher event explain` says", "`GET /v1/events/{id}/explain` says"),
        (r"`dispatcher catalog list`", "`GET /v1/event-types`"),
        # what only whoever runs the service can do
        (r"start `dispatcher serve`", "whoever runs the service has to start one"),
        (r"then `dispatcher event readmit \S+`", "then ask whoever runs the service to readmit the event"),
        # what HTTP has no call for
        (r" `dispatcher event list` shows the latest\.", ""),
        (r" `dispatcher tenant create NAME` registers one, `dispatcher tenant list` shows all\.", ""),
        (r" `dispatcher (key|profile|format|preset|tenant) list` shows all\.", ""),
    )
)


def for_http(text: str) -> str:
    """Translate the commands that a message names."""
    for pattern, call in _COMMANDS:
        text = pattern.sub(call, text)
    return text
