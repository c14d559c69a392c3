"""Fills in the console's templates; everything is escaped unless a template says otherwise, and none does."""

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dispatcher.indenting import indented

STATIC: Final = files("dispatcher") / "console" / "static"

NOTHING: Final = "-"
"""Where there is no value."""

LONGEST_FLASH: Final = 2000
"""Characters: cookies end at 4096 bytes."""


@cache
def environment() -> Environment:
    """Return the templates' environment."""
    made = Environment(
        loader=PackageLoader("dispatcher", "console/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "when": when,
        "span": span,
        "number": number,
        "size": size,
        "pretty": pretty,
        "short": short,
        "bare": bare,
        "ticked": ticked,
        "options": options,
    }
    made.globals |= {"asset": asset}
    return made


def render(template: str, /, **context: Any) -> str:
    """Fill in a template."""
    return environment().get_template(template).render(**context)


@cache
def asset(name: str) -> str:
    """Return the query that names a static file's content, so that browsers may keep it for ever."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def write_flash(text: str) -> str:
    """Write a text so that a cookie can hold it."""
    return base64.urlsafe_b64encode(text[:LONGEST_FLASH].encode()).decode()


def read_flash(cookie: str) -> str | None:
    """Read a text from a cookie; null if it is none."""
    try:
        return base64.urlsafe_b64decode(cookie).decode()
    except ValueError:
        return None


def when(instant: datetime | None, missing: str = NOTHING) -> Markup:
    """Write an instant in UTC; the page's script adds how long ago that is."""
    if instant is None:
        return escape(missing)
    aware = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    exact = aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, f"{aware:%Y-%m-%d %H:%M:%S}")


def span(seconds: float | None, missing: str = NOTHING) -> str:
    """Write a duration for people: `340 ms`, `12 s`, `4 min`, `3 h`, `2 d`."""
    if seconds is None:
        return missing
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def number(value: float | None, missing: str = NOTHING) -> str:
    """Write a number with thin gaps between thousands; at most two digits behind the point."""
    if value is None:
        return missing
    text = f"{value:,.2f}" if value != int(value) else f"{int(value):,}"
    return text.replace(",", "\u202f")


def size(count: float | None, missing: str = NOTHING) -> str:
    """Write a number of bytes: `512 B`, `1.5 kB`, `3.2 MB`."""
    if count is None:
        return missing
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":  # noqa: PLR2004 - a thousand is what `k` means
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"  # noqa: PLR2004
        count /= 1000
    raise AssertionError


def pretty(value: Any) -> str:
    """Write JSON text, bytes or a value with line ends and indents, as far as it is JSON; else as it is.

    A text keeps its spelling: what was sent is what is shown, `1.10` and double names included.
    """
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return json.dumps(text, ensure_ascii=False, indent=2, default=str)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return indented(text)


def options(words: Iterable[object]) -> list[tuple[str, str]]:
    """Make a choice's options of words that stand for themselves."""
    return [(str(word), str(word)) for word in words]


def short(text: object, length: int = 60) -> str:
    """Cut a text that is only to be recognised."""
    whole = str(text)
    return whole if len(whole) <= length else f"{whole[: length - 1]}…"


def bare(url: str) -> str:
    """Leave out of an address, in a list of them, what nearly all begin with."""
    return url.removeprefix("https://")


def ticked(text: str) -> Markup:
    """Write what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one has no partner: it is no mark
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )
