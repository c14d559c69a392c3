"""What tenants are told over HTTP never sends them to a command line that they do not have."""

import re
from pathlib import Path

import pytest

import dispatcher
from dispatcher.api.wording import for_http

ROOMS = ("admin", "doorkeeper.py", "payload.py", "formats", "filters.py", "presets.py", "signature.py", "retry.py")
"""Where messages for people come from that a call over HTTP can meet."""

OPERATORS = {"dispatcher secret new-key", "dispatcher operator list", "dispatcher operator set-password"}
"""In messages of which tenants see nothing: about the configuration, and about operators."""


def messages() -> list[str]:
    """Every literal that names a command, with what stands around it; values of f-strings stand as `ID`."""
    package = Path(dispatcher.__file__).parent
    files = [path for room in ROOMS for path in [package / room, *(package / room).glob("**/*.py")] if path.is_file()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    joined = re.sub(r'"\s*\n\s*f?"', "", text)  # literals that go on in the next line
    literals = re.findall(r'f?"((?:[^"\\\n]|\\.)*`dispatcher [^"\n]*)"', joined)
    return [re.sub(r"\{[^{}]*\}", "ID", literal) for literal in literals]


def test_every_command_in_a_message_has_its_words_for_http() -> None:
    """A new message that names another command needs a translation."""
    found = messages()

    left = {command for said in found for command in re.findall(r"`(dispatcher [^`]*)`", for_http(said))}
    assert len(found) > 5
    assert left - OPERATORS == set()


@pytest.mark.parametrize(
    "said, expected",
    [
        pytest.param(
            "The webhook 7 is paused. Use `dispatcher webhook resume 7` first.",
            "The webhook 7 is paused. Use `POST /v1/webhook/7/resume` first.",
            id="call",
        ),
        pytest.param(
            "There is no event 7, or it is past retention. `dispatcher event list` shows the latest.",
            "There is no event 7, or it is past retention.",
            id="nothing of the kind",
        ),
        pytest.param("The URL is wrong.", "The URL is wrong.", id="nothing to say"),
    ],
)
def test_commands_become_calls(said: str, expected: str) -> None:
    """Or are left out where there is none."""
    assert for_http(said) == expected
