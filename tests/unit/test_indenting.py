"""JSON texts in lines: every token as it was spelled."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.rendering import pretty
from dispatcher.indenting import indented


def test_breaks_json_into_lines_without_changing_a_token() -> None:
    """Numbers and escapes keep their spelling."""
    text = r'{"b":1.10,"a":[12345678901234567890123,{}],"é":"\u00e9, {\"x\":1}","n":[]}'

    lines = indented(text)

    assert lines == (
        '{\n  "b": 1.10,\n  "a": [\n    12345678901234567890123,\n    {}\n  ],\n'
        '  "é": "\\u00e9, {\\"x\\":1}",\n  "n": []\n}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_indents_like_the_standard_library(value: Any) -> None:
    """For any JSON the result is what `json.dumps` with an indent writes."""
    assert indented(json.dumps(value)) == json.dumps(value, indent=2)


def test_the_console_shows_payloads_as_they_are_spelled() -> None:
    """Neither numbers nor double names are folded on the way to a page."""
    assert pretty(b'{"n":1.10,"n":1e3}') == '{\n  "n": 1.10,\n  "n": 1e3\n}'


def test_the_console_shows_what_is_no_json_as_it_is() -> None:
    """A page of HTML that a subscriber answered with loses nothing."""
    assert pretty(b'<p>{"a":1}</p>') == '<p>{"a":1}</p>'
