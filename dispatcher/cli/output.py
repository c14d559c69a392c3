"""Print: JSON documents as the API writes them, tables, and one thing at a time.

What is printed was written by others (URLs, error lines, answers), so control characters never reach the terminal as
such. Ids are never cut: what is shown can be copied.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NOTHING = "-"

UNBOUNDED = 100_000
"""Columns of a page that is no terminal: wide enough that no line is ever folded for a program that reads it."""


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def line(text: str, *, style: str = "") -> None:
    """Print a line for people on stdout."""
    console().print(Text(printable(text), style=style), soft_wrap=True)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str) -> None:
    """Print `rows` under headings; `columns` is field → heading, `empty` what to say instead of an empty table."""
    if not rows:
        line(empty)
        return
    cells = [[cell(row.get(field)) for field in columns] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    page = Table(box=None, pad_edge=False, header_style="bold")
    for (field, heading), width in zip(columns.items(), widths, strict=True):
        whole = _is_copied(field)
        page.add_column(Text(heading), no_wrap=whole, min_width=width if whole else None, overflow="fold")
    for row in cells:
        page.add_row(*(Text(text) for text in row))
    target = console()
    kept = sum(width + 2 for field, width in zip(columns, widths, strict=True) if _is_copied(field))
    # A narrow terminal breaks the line by itself; rich would cut the ids.
    target.print(page, width=max(target.width, kept + 12 * len(columns)), crop=False)


def record(value: Mapping[str, Any]) -> None:
    """Print one thing, a line for each field; things inside it follow as blocks of their own."""
    plain = {label(name): content for name, content in value.items() if not _is_block(content)}
    _fields(plain)
    for name, content in value.items():
        if not _is_block(content):
            continue
        line(f"\n{label(name)}", style="bold")
        if isinstance(content, Mapping):
            _fields(content)
        else:
            table(content, {field: label(field) for field in content[0]}, empty="")


def _fields(values: Mapping[str, Any]) -> None:
    width = max(map(len, values), default=0)
    for name, content in values.items():
        line(f"{name:<{width}}  {cell(content)}")


def cell(value: object) -> str:
    """Write one value so that a person can read it."""
    match value:
        case None | "" | [] | {}:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value)
        case list() | tuple() if all(isinstance(part, str) for part in value):
            return printable(", ".join(value))
        case Mapping() | list() | tuple():
            return printable(json.dumps(value, ensure_ascii=False, default=str))
        case _:
            return printable(str(value))


def label(name: str) -> str:
    """Write a field's name in words: `notificationEmail` → `notification email`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def printable(text: str) -> str:
    """Escape what a terminal would obey: control characters, directional overrides and the like; keep line ends."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def console() -> Console:
    """Return where to print: coloured and as wide as the terminal, or plain and unbounded."""
    width = None if sys.stdout.isatty() else UNBOUNDED
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _is_copied(field: str) -> bool:
    """True for what people copy: ids, keys, names of tenants."""
    return field.lower().endswith(("id", "key", "name", "tenant"))


def _is_block(content: object) -> bool:
    if isinstance(content, Mapping):
        return bool(content)
    return isinstance(content, list | tuple) and bool(content) and all(isinstance(part, Mapping) for part in content)
