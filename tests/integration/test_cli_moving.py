"""`dispatcher format`, `profile`, `preset`, and what they bring to `webhook` and `tenant`."""

from pathlib import Path
from typing import Any

import pytest

from support.command_line import CommandLine, command_line

URL = "https://example.com/hooks"

FORMAT = """
name = "visits"
version = "3"
fields = [{ name = "id", event = "id" }, { name = "minutes", payload = "minutes" }]
"""

PROFILE = """
name = "ours"
content = "{timestamp}.{body}"
headers = { X-Ours = "{signature}" }
"""


@pytest.fixture
def line(database: str) -> CommandLine:
    """The command line on a database with the tenant `acme`."""
    line = command_line(database)
    assert line("tenant", "create", "acme").code == 0
    return line


def webhook(line: CommandLine, *options: str) -> Any:
    """Create a webhook; its document."""
    return line("webhook", "create", "--tenant", "acme", "--url", URL, "--subscriptions", "*", *options, "--json").json


def test_a_format_from_file_to_webhook(line: CommandLine, tmp_path: Path) -> None:
    """Checked, put in, pinned, shown, deprecated, and dropped when nobody uses it."""
    file = tmp_path / "visits-3.toml"
    file.write_text(FORMAT)

    assert line("format", "check", str(file), "--json").json["name"] == "visits/3"
    put = line("format", "put", str(file), "--json").json
    pinned = webhook(line, "--payload-format", "visits/3")
    shown = line("format", "show", "visits/3", "--json").json
    deprecated = line("format", "deprecate", "visits/3", "--from", "2027-01-31", "--json").json
    in_use = line("format", "drop", "visits/3")
    line("webhook", "update", pinned["id"], "--payload-format", "raw")
    dropped = line("format", "drop", "visits/3", "--json").json

    assert put["definition"]["fields"] == [{"name": "id", "event": "id"}, {"name": "minutes", "payload": "minutes"}]
    assert pinned["payloadFormat"] == "visits/3"
    assert shown["webhooks"] == 1
    assert deprecated["deprecatedDate"] == "2027-01-31"
    assert in_use.code == 4
    assert "Move them first" in in_use.stderr
    assert dropped == {"name": "visits/3", "dropped": True}
    assert "vsee/2.0" in line("format", "list").stdout


def test_a_bad_format_is_refused_with_its_place(tmp_path: Path) -> None:
    """Without any database."""
    file = tmp_path / "bad.toml"
    file.write_text(FORMAT.replace('event = "id"', 'event = "idd"'))

    answer = command_line()("format", "check", str(file))

    assert answer.code == 4
    assert "bad.toml is no payload format. fields[0].event: an event has no `idd`" in answer.stderr
    assert command_line()("format", "check", str(tmp_path / "absent.toml")).code == 4


def test_a_tenants_default_format(line: CommandLine) -> None:
    """New webhooks of the tenant get it; an empty one takes it back."""
    updated = line("tenant", "update", "acme", "--payload-format", "vsee/1.0", "--json").json
    pinned = webhook(line)
    cleared = line("tenant", "update", "acme", "--payload-format", "", "--json").json

    assert (updated["payloadFormat"], pinned["payloadFormat"]) == ("vsee/1.0", "vsee/1.0")
    assert "payloadFormat" not in cleared
    assert "payloadFormat" not in webhook(line)


def test_a_profile_from_file_to_webhook(line: CommandLine, tmp_path: Path) -> None:
    """Checked, put in, signed by, and not to be dropped meanwhile."""
    file = tmp_path / "ours.toml"
    file.write_text(PROFILE)

    assert line("profile", "check", str(file), "--json").json["name"] == "ours"
    line("profile", "put", str(file))
    signed = webhook(line, "--signing-profiles", "ours,decoda", "--secret", "theirs-as-it-is")

    assert signed["signingProfiles"] == ["standard", "ours", "decoda"]
    assert signed["secret"] == "theirs-as-it-is"
    assert line("profile", "drop", "ours").code == 4
    assert line("profile", "show", "ours", "--json").json["definition"]["headers"] == {"X-Ours": "{signature}"}
    assert {"rfc9421", "ours"} <= {one["name"] for one in line("profile", "list", "--json").json}


def test_ed25519_keys_are_shown_and_changed(line: CommandLine) -> None:
    """The public half alone, at creation and later."""
    created = webhook(line, "--signing-profiles", "v1a")
    rotated = line("webhook", "rotate-key", created["id"], "--json").json
    shown = line("webhook", "secret", created["id"], "--json").json

    assert [key["publicKey"] for key in shown["publicKeys"]] == [rotated["publicKey"], created["publicKey"]]
    assert "whsk_" not in str(shown)


@pytest.mark.parametrize(
    "options, says",
    [
        (("--filter", "payload.amount >"), "--filter: `payload.amount >` is no expression that can be used"),
        (("--payload-format", "vsee/3"), "--payload-format: There is no payload format `vsee/3`."),
        (
            ("--signing-profiles", "herro"),
            "--signing-profiles: There is no signing profile `herro`. Did you mean `hero`?",
        ),
        (("--preset", "helthie"), "--preset: There is no preset `helthie`. Did you mean `healthie`?"),
        (("--verification", "hello"), "--verification: There is no verification `hello`"),
        (("--secret", "of-another-system"), "--secret: The secret does not start with `whsec_`"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_mistake_names_its_option(line: CommandLine, options: tuple[str, ...], says: str) -> None:
    """Every refusal points to what was written, and says how to mend it."""
    answer = line("webhook", "create", "--tenant", "acme", "--url", URL, "--subscriptions", "*", *options)

    assert answer.code == 4
    assert says in answer.stderr


def test_a_preset_sets_a_webhook_up(line: CommandLine) -> None:
    """Body, signature, schedule and health by one name; `preset show` says what, and what was chosen."""
    shown = line("preset", "show", "healthie", "--json").json
    created = webhook(line, "--preset", "healthie", "--secret", "whsec_my-secret-key")

    assert created["payloadFormat"] == shown["settings"]["payload_format"] == "raw"
    assert created["signingProfiles"] == ["standard", "healthie"]
    assert created["retrySchedule"][:2] == [240, 480]
    assert (created["warnAfterSeconds"], created["disableAfterSeconds"]) == (86400, 259200)
    assert any("padded base64" in choice for choice in shown["choices"])
    assert "healthie" in line("preset", "list").stdout


def test_filters_and_the_tree_can_be_changed(line: CommandLine) -> None:
    """Set at creation, changed, and taken back."""
    created = webhook(line, "--filter", "payload.amount > 1000", "--include-descendants")
    changed = line("webhook", "update", created["id"], "--filter", "event.type == 'a'", "--json").json
    bare = line("webhook", "update", created["id"], "--clear", "filter", "--no-include-descendants", "--json").json

    assert (created["filter"], created["includeDescendants"]) == ("payload.amount > 1000", True)
    assert (changed["filter"], changed["includeDescendants"]) == ("event.type == 'a'", True)
    assert "filter" not in bare
    assert "includeDescendants" not in bare
