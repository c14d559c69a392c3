"""Writes an attempt's request as a curl command, for somebody who wants to see the answer with their own eyes."""

import shlex
from typing import Final

from dispatcher.admin import AttemptRow

OWN: Final = ("host", "content-length", "connection", "accept-encoding")
"""Headers that curl writes itself."""


def curl(url: str, attempt: AttemptRow) -> str | None:
    """Return the command; None where nothing was written, or its body cannot be made any more."""
    if attempt.request_head is None or attempt.request_body is None:
        return None
    try:
        body = attempt.request_body.decode()
    except UnicodeDecodeError:
        return None
    _, *lines = attempt.request_head.split("\r\n")
    headers = [line for line in lines if line and line.partition(":")[0].lower() not in OWN]
    return " \\\n  ".join(
        [
            f"curl -i -X POST {shlex.quote(url)}",
            *(f"-H {shlex.quote(header)}" for header in headers),
            f"--data-raw {shlex.quote(body)}",
        ]
    )
