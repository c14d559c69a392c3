"""Texts as the console's pages write them."""

import pytest

from dispatcher.console.rendering import bare, ticked


@pytest.mark.parametrize(
    "text, html",
    [
        pytest.param("Run `dispatcher serve`.", "Run <code>dispatcher serve</code>.", id="marked"),
        pytest.param("a < b `<script>`", "a &lt; b <code>&lt;script&gt;</code>", id="escaped"),
        pytest.param("half a `mark <b>", "half a `mark &lt;b&gt;", id="no pair"),
    ],
)
def test_what_stands_between_backticks_is_code(text: str, html: str) -> None:
    """Whatever it is, it is escaped."""
    assert str(ticked(text)) == html


@pytest.mark.parametrize(
    "url, written",
    [
        pytest.param("https://example.com/in", "example.com/in", id="as nearly all"),
        pytest.param("http://example.com/in", "http://example.com/in", id="plain"),
    ],
)
def test_addresses_in_lists_tell_only_what_is_not_usual(url: str, written: str) -> None:
    """That one is not encrypted can be seen."""
    assert bare(url) == written
