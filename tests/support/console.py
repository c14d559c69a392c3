"""A live service with its console, and somebody who may sign in there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from support.browser import Screen
from support.command_line import command_line
from support.serving import Serving, serving

OPERATOR, PASSWORD = "anna", "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Console:
    """A `dispatcher serve` that people look at."""

    service: Serving
    database: str

    @property
    def url(self) -> str:
        """Where operators look: scheme, host and port."""
        return str(self.service.logged("ops.listening")[-1]["address"])

    @property
    def api(self) -> str:
        """Where tenants ask, and their people look."""
        return str(self.service.logged("api.listening")[-1]["address"])

    async def call(self, *arguments: str, stdin: str | None = None) -> str:
        """Call the command line; what it printed, which is JSON."""
        answer = await asyncio.to_thread(command_line(self.database), *arguments, "--json", stdin=stdin)
        assert answer.code == 0, answer.stderr
        return answer.stdout

    async def sign_in(self, screen: Screen, *, name: str = OPERATOR, password: str = PASSWORD) -> None:
        """Sign in as a person does."""
        await screen.go("/sign-in")
        await screen.page.get_by_label("Name").fill(name)
        await screen.page.get_by_label("Password").fill(password)
        await screen.page.get_by_role("button", name="Sign in").click()


@asynccontextmanager
async def console_of(database: str, **variables: str) -> AsyncIterator[Console]:
    """Run the service on a database, with an operator registered."""
    async with serving(database, workers=1, wait=True, roles=None, **variables) as service:
        console = Console(service, database)
        await console.call("operator", "create", OPERATOR, stdin=PASSWORD)
        yield console
