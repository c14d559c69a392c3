"""Load the named queries of a module from the `.sql` file beside it.

    -- name: take_due
    -- Read what is due in the shards $1, at most $2 rows.
    select …

A name, at least one line that says what it is and what each `$n` is, then one statement.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

NAME = re.compile(r"^-- name:(.*)$", re.MULTILINE)
VALID_NAME = re.compile(r"[a-z][a-z0-9_]*")


class BadQueryFile(Exception):
    """A `.sql` file does not follow the format, or a query was asked for that it does not hold: a fault of ours."""


class UnknownQuery(AttributeError, KeyError):
    """The file holds no query of that name."""


class Queries(Mapping[str, str]):
    """The statements of one file by name, as attributes and as a mapping.

    A statement keeps its name as a leading comment, so that it can be told in `pg_stat_activity`.
    """

    def __init__(self, statements: Mapping[str, str], *, source: str) -> None:
        self._statements = dict(statements)
        self._source = source

    def __getattr__(self, name: str) -> str:
        if name.startswith("__") or name not in self._statements:
            raise UnknownQuery(f"{self._source} holds no query named {name}")
        return self._statements[name]

    def __getitem__(self, name: str) -> str:
        return self.__getattr__(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


@cache
def load(module_file: str) -> Queries:
    """Read the queries beside a module, given its `__file__`: `store/outbox.py` → `store/outbox.sql`.

    Raises BadQueryFile.
    """
    path = Path(module_file).with_suffix(".sql")
    return parse(path.read_text(encoding="utf-8"), source=path.name)


def parse(text: str, *, source: str) -> Queries:
    """Split the text of a `.sql` file into its queries; `source` names it in errors. Raises BadQueryFile."""
    preamble, *rest = NAME.split(text)
    if any(line.strip() and not line.startswith("--") for line in preamble.splitlines()):
        raise BadQueryFile(f"{source} has a statement before its first `-- name:` line")
    statements: dict[str, str] = {}
    for given, body in zip(rest[::2], rest[1::2], strict=True):
        name = given.strip()
        if not VALID_NAME.fullmatch(name):
            raise BadQueryFile(f"{source}: {name!r} is no name for a query; use lower case, digits and underscores")
        if name in statements:
            raise BadQueryFile(f"{source} has two queries named {name}")
        statements[name] = _statement(body, name=name, source=source)
    if not statements:
        raise BadQueryFile(f"{source} has no `-- name:` line")
    return Queries(statements, source=source)


def _statement(body: str, *, name: str, source: str) -> str:
    """The statement without its explanation, which must be there."""
    lines = body.strip().splitlines()
    said = 0
    while said < len(lines) and lines[said].startswith("--"):
        said += 1
    if said == 0:
        raise BadQueryFile(f"{source}: {name} needs a comment line below its name that says what it is")
    statement = "\n".join(lines[said:]).strip().removesuffix(";")
    if not statement:
        raise BadQueryFile(f"{source}: {name} has no statement")
    return f"-- {Path(source).stem}.{name}\n{statement}"
