"""The loader of named queries, and the form of every `.sql` file of the store."""

import re
from pathlib import Path

import pytest

import dispatcher.store
from dispatcher.store.queries import BadQueryFile, Queries, UnknownQuery, parse

STORE = Path(dispatcher.store.__file__).parent

TWO = """\
-- A preamble may say what the file is about.

-- name: take_due
-- Read what is due: $1 shards,
-- $2 at most so many.
select 1
-- in the order of their instants
where $1 and $2;

-- name: count
-- Count.
select 2
"""


def test_statements_are_found_by_name() -> None:
    """A statement keeps its name as a comment, and loses explanation and semicolon."""
    queries = parse(TWO, source="deliveries.sql")

    assert queries.take_due == "-- deliveries.take_due\nselect 1\n-- in the order of their instants\nwhere $1 and $2"
    assert queries["count"] == "-- deliveries.count\nselect 2"
    assert list(queries) == ["take_due", "count"]


def test_an_unknown_query_is_an_error_that_names_file_and_query() -> None:
    """A typo in a name shows itself as such."""
    queries = parse(TWO, source="deliveries.sql")

    with pytest.raises(UnknownQuery, match=r"deliveries\.sql holds no query named take_dew"):
        _ = queries.take_dew


@pytest.mark.parametrize(
    "text,message",
    [
        pytest.param("-- name: a\n-- A.\nselect 1\n-- name: a\n-- A.\nselect 2", "two queries named a", id="twice"),
        pytest.param("-- name: TakeDue\n-- A.\nselect 1", "'TakeDue' is no name", id="not snake case"),
        pytest.param("-- name:\n-- A.\nselect 1", "'' is no name", id="empty name"),
        pytest.param("-- name: a\nselect 1", "a needs a comment line", id="no explanation"),
        pytest.param("-- name: a\n-- A.\n", "a has no statement", id="no statement"),
        pytest.param("select 1;\n-- name: a\n-- A.\nselect 1", "statement before its first", id="nameless"),
        pytest.param("-- nothing here\n", "no `-- name:` line", id="no query"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str) -> None:
    """Each way to get the form wrong has its message."""
    with pytest.raises(BadQueryFile, match=re.escape(message)):
        parse(text, source="deliveries.sql")


@pytest.mark.parametrize("path", sorted(STORE.glob("*.sql")), ids=lambda path: path.name)
def test_every_query_of_the_store_explains_its_parameters(path: Path) -> None:
    """Each `$n` of a statement is named in the comment above it, or the comment says "The same" as its neighbour."""
    text = path.read_text()

    assert isinstance(parse(text, source=path.name), Queries)
    for block in re.split(r"^-- name:", text, flags=re.MULTILINE)[1:]:
        name, explanation, statement = re.match(r"(.*)\n((?:--.*\n)+)((?:.*\n?)*)", block).groups()  # type: ignore[union-attr]
        if explanation.startswith("-- The same"):
            continue
        unexplained = {int(number) for number in re.findall(r"\$(\d+)", statement)} - explained(explanation)
        assert not unexplained, f"{path.name}: {name.strip()} does not say what its parameters {unexplained} are"


def explained(comment: str) -> set[int]:
    """The parameters that a comment names, `$1` by `$1` or as a range, `$2 to $5`."""
    single = {int(number) for number in re.findall(r"\$(\d+)", comment)}
    ranges = re.findall(r"\$(\d+)\s+(?:--\s+)?to\s+(?:--\s+)?\$(\d+)", comment)
    return single.union(*(range(int(first), int(last)) for first, last in ranges))
