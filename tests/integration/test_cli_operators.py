"""`dispatcher operator` and `dispatcher portal`: who may sign in, and links to tenants' own pages."""

import asyncio
from collections.abc import Iterator
from datetime import datetime

import pytest

from dispatcher.embedded import EmbeddedPostgres
from support.admin import open_admin
from support.command_line import CommandLine, command_line
from support.postgres import shared_clone

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all: each test has names of its own."""
    with shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
def line(database: str) -> CommandLine:
    """The command line on the database."""
    return command_line(database)


def signs_in(database: str, name: str, password: str) -> bool:
    """Whether somebody gets in."""

    async def ask() -> bool:
        async with open_admin(database) as admin:
            return await admin.sign_in(name, password, lasting=60) is not None

    return asyncio.run(ask())


def test_an_operator_is_registered_with_a_password_from_standard_input(line: CommandLine, database: str) -> None:
    """It is nowhere in what is printed, and lets in."""
    answer = line("operator", "create", "anna", "--json", stdin=f"{PASSWORD}\n")

    assert answer.json["name"] == "anna"
    assert answer.json["signedInDate"] is None
    assert PASSWORD not in answer.stdout + answer.stderr
    assert signs_in(database, "anna", PASSWORD)


def test_operators_are_listed(line: CommandLine) -> None:
    """By name, for people and as JSON."""
    line("operator", "create", "listed", stdin=PASSWORD)

    assert "listed" in [operator["name"] for operator in line("operator", "list", "--json").json]
    assert "listed" in line("operator", "list").stdout


@pytest.mark.parametrize(
    "name, password, said",
    [
        ("short", "eleven char", "A password is 12 to 1024 characters"),
        ("long", "x" * 1025, "A password is 12 to 1024 characters"),
        ("none", "", "A password is 12 to 1024 characters"),
        (" blank ", PASSWORD, "An operator's name"),
    ],
)
def test_what_cannot_be_is_refused(line: CommandLine, name: str, password: str, said: str) -> None:
    """With how it can."""
    answer = line("operator", "create", name, stdin=password)

    assert (answer.code, said in answer.stderr) == (4, True)


def test_a_name_is_given_once(line: CommandLine) -> None:
    """The second one is told how to change the password."""
    line("operator", "create", "twice", stdin=PASSWORD)

    answer = line("operator", "create", "twice", stdin=PASSWORD)

    assert (answer.code, "set-password" in answer.stderr) == (4, True)


def test_a_password_is_changed(line: CommandLine, database: str) -> None:
    """The old one lets nobody in any more."""
    line("operator", "create", "bob", stdin=PASSWORD)

    answer = line("operator", "set-password", "bob", "--json", stdin="another horse battery")

    assert answer.json["name"] == "bob"
    assert [signs_in(database, "bob", one) for one in (PASSWORD, "another horse battery")] == [False, True]


def test_an_operator_is_removed(line: CommandLine, database: str) -> None:
    """And cannot be twice."""
    line("operator", "create", "gone", stdin=PASSWORD)

    removed, again = line("operator", "remove", "gone"), line("operator", "remove", "gone")

    assert (removed.code, removed.stdout, again.code) == (0, "Removed gone.\n", 5)
    assert not signs_in(database, "gone", PASSWORD)


def test_a_link_to_a_tenants_pages_is_made(line: CommandLine, database: str) -> None:
    """For so long as asked; the address alone is on stdout."""
    line("tenant", "create", "acme")

    made = line("portal", "link", "acme", "--expires-in", "7d", "--json").json
    shown = line("portal", "link", "acme")

    async def tenant_of(url: str) -> str | None:
        async with open_admin(database) as admin:
            return await admin.tenant_of_link(url.partition("token=")[2])

    ends = datetime.fromisoformat(made["expiresDate"])
    assert 6.9 < (ends - datetime.now(ends.tzinfo)).total_seconds() / 86400 < 7.1
    assert made["url"].startswith("http://127.0.0.1:8080/portal/enter?token=")
    assert [asyncio.run(tenant_of(url)) for url in (made["url"], shown.stdout.strip())] == ["acme", "acme"]
    assert "cannot be called back" in shown.stderr


def test_a_link_begins_with_the_public_address(database: str) -> None:
    """Where tenants come in."""
    line = command_line(database, API__PUBLIC_URL="https://webhooks.example.com/")
    line("tenant", "create", "public")

    url = line("portal", "link", "public", "--json").json["url"]

    assert url.startswith("https://webhooks.example.com/portal/enter?token=")


@pytest.mark.parametrize(
    "arguments, code",
    [(("nobody",), 5), (("known", "--expires-in", "31d"), 4), (("known", "--expires-in", "soon"), 4)],
    ids=["tenant", "too long", "no duration"],
)
def test_a_link_that_cannot_be_is_refused(line: CommandLine, arguments: tuple[str, ...], code: int) -> None:
    """Nothing is printed that looks like one."""
    line("tenant", "create", "known")

    answer = line("portal", "link", *arguments)

    assert (answer.code, "token" in answer.stdout) == (code, False)
