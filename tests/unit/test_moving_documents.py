"""docs/ on formats, filters, signatures and presets, and the guides of examples/, tell the truth."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from typer.core import TyperGroup

from dispatcher.cli import app
from dispatcher.filters import Failed, Judge, check_filter
from dispatcher.formats.definition import read as read_format
from dispatcher.formats.references import INSTANTS, OF_EVENT
from dispatcher.formats.writing import compile_format
from dispatcher.model import Event, EventId
from dispatcher.payload import built_in_names, resolve
from dispatcher.presets import PRESETS
from dispatcher.profiles import healthie, known
from dispatcher.profiles.declared import read as read_profile
from dispatcher.retry import PRESETS as SCHEDULES

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "docs" / f"{name}.md" for name in ("formats", "filters", "signing", "presets")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]


def text_of(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def calls() -> list[list[str]]:
    """Every call of `dispatcher` in a shell block, as arguments."""
    found = []
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "dispatcher":
                    found.append(words[1:])
    return found


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_every_command_exists_with_its_options(call: list[str]) -> None:
    """Each `dispatcher …` line names a command that there is, with options, presets, formats and profiles that there are."""
    command: Any = typer.main.get_command(app)
    words = list(call)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.commands.get(words.pop(0))
        assert found is not None, f"no command `dispatcher {' '.join(call)}`"
        command = found
    options = {name for parameter in command.params for name in parameter.opts}
    given = dict(pairwise([*words, ""]))

    assert [word for word in words if word.startswith("--") and word not in options] == []
    assert given.get("--preset", "svix") in PRESETS
    assert given.get("--retry-schedule", "svix") in SCHEDULES
    assert given.get("--payload-format", "raw") in {*built_in_names(), "visits/3"}
    assert {name.partition(":")[0] for name in given.get("--signing-profiles", "hero").split(",")} <= set(
        known.built_in_names()
    )
    if "--filter" in given:
        assert check_filter(given["--filter"]) == given["--filter"]


def test_the_format_makes_the_body_that_is_shown() -> None:
    """The example of a format compiles, and its body is the one beneath."""
    (definition,) = blocks(text_of("formats"), "toml")
    (body,) = blocks(text_of("formats"), "json")
    event_id = EventId(UUID("01940000-0000-7000-8000-000000000001"))
    payload = '{"visit": {"id": "28540", "minutes": 15.0}}'
    event = Event(event_id, "acme", "visit.ended", payload, 1735689600.0, 0.0)

    written = compile_format(read_format(definition, source="visits-3.toml")).body(event)

    assert written.decode() == body.strip()


def test_all_formats_references_and_instants_are_named() -> None:
    """The tables leave nothing out."""
    page = text_of("formats")

    assert [name for name in (*built_in_names(), *OF_EVENT, *INSTANTS) if f"`{name}`" not in page] == []


def test_the_formats_that_never_parse_do_not() -> None:
    """What is no JSON at all passes through them untouched."""
    event = Event(EventId(UUID(int=1)), "acme", "a", "<no JSON", 0.0, 0.0)

    for name in ("standard", "raw", "cloudevents", "decoda/1.0"):
        assert b"<no JSON" in resolve(name).body(event)


def test_every_filter_that_is_shown_is_one() -> None:
    """Each line of the examples passes the door, and comes to a decision on a fitting payload."""
    payload = {
        "amount": 1500,
        "currency": "EUR",
        "changed_fields": ["date"],
        "lines": [{"sku": "A-1"}],
        "practice": {"id": "p1"},
    }
    event = Event(EventId(UUID(int=1)), "acme", "invoice.paid", json.dumps(payload), 1.8e9, 0.0)
    (block,) = blocks(text_of("filters"), "cel")

    for line in block.splitlines():
        assert check_filter(line) == line
        assert not isinstance(Judge(event).decide(line), Failed)


def test_all_profiles_are_named() -> None:
    """With every form of Healthie's digest; and the example is one."""
    page = text_of("signing")
    (definition,) = blocks(page, "toml")

    named = {name for name in known.built_in_names() if name != "standard"}
    named |= {f"healthie:{form}" for form in healthie.FORMS if form != "base64"}
    assert [name for name in named if f"`{name}`" not in page] == []
    assert read_profile(definition, source="ours.toml").name == "ours"


def test_the_table_of_presets_is_right() -> None:
    """Each preset has a row, with the body and the signature that it sets."""
    rows = {
        cells[0].strip("` "): [cell.strip("` ") for cell in cells[1:]]
        for line in text_of("presets").splitlines()
        if line.startswith("| `") and (cells := line.strip("|").split("|"))
    }

    assert set(rows) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert rows[name][0] == preset.settings.get("payload_format", "")
        assert rows[name][1] == ",".join(preset.settings.get("signing_profiles", ()))
        assert bool(rows[name][2]) == ("retry_schedule" in preset.settings)
        assert bool(rows[name][3]) == ("timeout" in preset.settings)
        assert bool(rows[name][4]) == ("disable_after" in preset.settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link has something at its end."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
