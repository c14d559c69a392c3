"""One browser for all tests; for each module a service of its own, on a fresh database, with its console.

Override `variables` in a module to set the service up otherwise.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from dispatcher.embedded import EmbeddedPostgres
from support import postgres
from support.browser import Open, Screen, program, running, showing
from support.console import Console, console_of
from support.receiver import Receiver


class Missing(pytest.Module):
    """A module whose tests cannot run here: all such are told of in one line."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Skip."""
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Pass over all modules where there is no browser."""
    if program() is not None:
        return None
    missing: pytest.Module = Missing.from_parent(parent, path=module_path)
    return missing


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser."""
    async with running() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh database with the schema in it."""
    name = await postgres.clone_template(postgres_server)
    yield postgres_server.url_of(name)
    await postgres.drop(postgres_server, name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def connection(database: str) -> AsyncIterator[Any]:
    """A connection to `database`."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def variables() -> Mapping[str, str]:
    """Settings of the service, as `serving` takes them."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def console(database: str, variables: Mapping[str, str]) -> AsyncIterator[Console]:
    """A live service with its console."""
    async with console_of(database, **variables) as console:
        yield console


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def signed_in(browser: Browser, console: Console) -> Any:
    """The cookies of an operator who is signed in."""
    async with showing(browser, [console.url]) as screen:
        await console.sign_in(screen)
        return await screen.state()


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A subscriber."""
    async with Receiver() as receiver:
        yield receiver


@pytest_asyncio.fixture(loop_scope="session")
async def open_screen(browser: Browser, console: Console) -> AsyncIterator[Open]:
    """Open screens, which are closed when the test ends; it fails then if something happened on one that must not."""
    async with AsyncExitStack() as stack:

        async def open_screen(**options: Any) -> Screen:
            return await stack.enter_async_context(showing(browser, [console.url, console.api], **options))

        yield open_screen


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(open_screen: Open) -> Screen:
    """The screen of somebody who is not signed in."""
    screen: Screen = await open_screen()
    return screen


@pytest_asyncio.fixture(loop_scope="session")
async def screen(open_screen: Open, signed_in: Any) -> Screen:
    """The screen of an operator who is signed in."""
    screen: Screen = await open_screen(state=signed_in)
    return screen
