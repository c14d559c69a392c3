"""What the command line prints: whole, copyable, harmless, and as it was spelled."""

import json

import pytest

from dispatcher.cli import output

ID = "0199a000-0000-7000-8000-000000000001"


def test_never_breaks_a_line_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """A row is a line when stdout is no terminal, however long it is."""
    url = "https://example.com/" + "x" * 500

    output.table([{"id": ID, "url": url, "state": "active"}], {"id": "ID", "state": "STATE", "url": "URL"}, empty="")

    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "STATE", "URL"]
    assert row.split() == [ID, "active", url]


def test_never_cuts_an_id_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other columns are folded, ids stay in one piece."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    rows = [{"id": ID, "webhookId": ID, "lastError": "timeout: no answer within 15 s " * 4}]

    output.table(rows, {"id": "ID", "webhookId": "WEBHOOK ID", "lastError": "LAST ERROR"}, empty="")

    assert capsys.readouterr().out.count(ID) == 2


def test_says_that_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table is a sentence."""
    output.table([], {"id": "ID"}, empty="There is nothing.")

    assert capsys.readouterr().out == "There is nothing.\n"


def test_prints_a_record_with_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """A field is a line; things below it follow as a table."""
    output.record({"id": ID, "notificationEmail": None, "subscriptions": ["a.b", "c.*"], "attempts": [{"number": 1}]})

    assert capsys.readouterr().out == (
        f"id                  {ID}\nnotification email  -\nsubscriptions       a.b, c.*\n\nattempts\nnumber\n1     \n"
    )


def test_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON keeps letters as they are, and reads back."""
    output.document({"name": "Müller", "at": None})

    printed = capsys.readouterr().out
    assert "Müller" in printed
    assert json.loads(printed) == {"name": "Müller", "at": None}


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("\x1b[2J", "\\x1b[2J", id="escape"),
        pytest.param("a\rb", "a\\rb", id="carriage return"),
        pytest.param("a\u202eb", "a\\u202eb", id="right to left"),
        pytest.param("a\u200bb", "a\\u200bb", id="invisible"),
        pytest.param("Müller 日本", "Müller 日本", id="letters"),
        pytest.param("a\nb", "a\nb", id="line end"),
    ],
)
def test_disarms_what_a_terminal_obeys(text: str, expected: str) -> None:
    """Control and direction characters are shown as escapes, letters of all scripts as they are."""
    assert expected == output.printable(text)
