"""Prints the story: headings, sentences, SQL, one line per arrival, mails. In colour on a terminal, plain lines in a pipe.

What can be copied (SQL, commands, ids) is never folded or cut; only sentences are wrapped.
"""

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.text import Text

from dispatcher.demo.receiver import Arrival

WIDEST = 100
"""Columns of a sentence, which longer lines make hard to read."""

UNBOUNDED = 100_000
"""Columns of a page that is no terminal: no line is ever folded for a program that reads it."""

INDENT = "   "


class _Gone(Exception):
    """Nobody reads any more."""


class _Page(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the program here, and leave a database behind."""
        raise _Gone


class Screen:
    """A page to print on; `on_gone` is called once, when nobody reads it any more (a closed pipe or terminal)."""

    def __init__(self, out: TextIO) -> None:
        self._console = _Page(
            file=out,
            width=None if out.isatty() else UNBOUNDED,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self.on_gone: Callable[[], None] = _ignore
        self._gone = False

    def title(self, text: str) -> None:
        """Print the first line."""
        self._line(text, style="bold")

    def heading(self, text: str) -> None:
        """Begin a part of the story."""
        self._line("")
        self._line(text, style="bold")

    def say(self, text: str) -> None:
        """Print sentences."""
        width = min(self._console.width, WIDEST)
        for line in textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False):
            self._line(line)

    def gap(self) -> None:
        """Print an empty line."""
        self._line("")

    def code(self, text: str) -> None:
        """Print what somebody typed, or may type: SQL, JSON, commands."""
        for line in text.splitlines():
            self._line(f"{INDENT}  {line}", style="cyan")

    def document(self, value: Mapping[str, Any]) -> None:
        """Print JSON."""
        self.code(json.dumps(value, ensure_ascii=False, indent=2))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; nothing in it is folded."""
        widths = [max(len(row[n]) for row in (headings, *rows)) for n in range(len(headings))]
        for number, row in enumerate((headings, *rows)):
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._line(f"{INDENT}  {cells}".rstrip(), style="" if number else "bold")

    def arrival(self, arrival: Arrival, *, took: str | None) -> None:
        """Print a request that the receiver got; `took`: how long after what, of a first attempt."""
        if arrival.problem is not None:
            verdict, style = f"NOT VERIFIED: {arrival.problem}", "red"
        elif arrival.accepted:
            verdict, style = "verified", "green"
        else:
            verdict, style = "verified", "yellow"
        notes = [verdict, str(arrival.status)]
        if arrival.duplicate:
            notes.append("a duplicate, dropped")
        elif arrival.attempt > 1:
            notes.append(f"attempt {arrival.attempt}")
        elif took is not None:
            notes.append(took)
        instant = datetime.fromtimestamp(arrival.received_at, UTC).astimezone()
        self._line(
            f"{INDENT}{instant:%H:%M:%S}.{instant.microsecond // 1000:03}  {arrival.webhook_id}  "
            f"{arrival.event_type}  {arrival.path}  {'  '.join(notes)}",
            style=style,
        )

    def mail(self, message: EmailMessage) -> None:
        """Print a mail: its most telling headers and its text."""
        body = message.get_body(("plain",))
        text = "" if body is None else str(body.get_content())
        self._line("")
        for name in ("From", "To", "Subject"):
            self._line(f"{INDENT}  | {name}: {message[name]}", style="magenta")
        for line in ("", *text.rstrip().splitlines()):
            self._line(f"{INDENT}  | {line}".rstrip(), style="magenta")
        self._line("")

    def good(self, text: str) -> None:
        """Print that all is well."""
        self._line(INDENT + text, style="green")

    def bad(self, text: str) -> None:
        """Print what is wrong."""
        self._line(INDENT + text, style="bold red")

    def _line(self, text: str, *, style: str = "") -> None:
        if self._gone:
            return
        try:
            self._console.print(Text(printable(text), style=style), soft_wrap=True)
        except (_Gone, OSError, ValueError):  # a closed pipe, a terminal that hung up, a file that was closed
            self._gone = True
            self.on_gone()


def _ignore() -> None:
    pass


def printable(text: str) -> str:
    """Escape what a terminal would obey: what arrives was written by others."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
