"""The service under test: a real `dispatcher serve` with a real configuration, its logs in a file."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import ClientSession

from benchmarks.children import ROOT
from benchmarks.errors import BenchmarkError

START_SECONDS: Final = 120.0
"""For the service to own its shards; a second or two a worker, unless the machine is very busy."""

STOP_SECONDS: Final = 30.0

LOUD: Final = frozenset({"warning", "error", "critical"})

ALL_OWNED: Final = """
select
  coalesce(sum(held), 0) = 256
  and count(*) = $1::integer
  and max(held) <= ceil(256.0 / $1)
from (
  select count(*) as held
  from dispatcher.shard_leases
  where expires_at > clock_timestamp()
  group by owner
) as worker
"""

CONFIGURATION: Final = """
[database]
url = {url}
[ops]
listen = "127.0.0.1:0"
[api]
listen = "127.0.0.1:0"
[log]
format = "json"
level = "info"
[egress]
https_only = false
allow_subnets = ["127.0.0.0/8"]
"""
"""All else is as it comes: logs are on, answers are stored, health is kept."""


class Service:
    """A running `dispatcher serve`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, *, workers: int) -> None:
        self._process = process
        self._workers = workers
        self.log = log

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    def lines(self, *, without: bytes = b'"event":"delivery.attempted"') -> Iterator[dict[str, Any]]:
        """Read what it has logged, but the very many lines that hold `without`."""
        with self.log.open("rb") as log:
            for line in log:
                if line.startswith(b"{") and without not in line:
                    yield orjson.loads(line)

    def complaints(self) -> set[str]:
        """Name the warnings and errors that it has logged."""
        return {str(line.get("event")) for line in self.lines(without=b'"level":"info"') if line.get("level") in LOUD}

    async def metrics(self) -> str:
        """Ask it for its metrics."""
        addresses = [line["address"] for line in self.lines() if line.get("event") == "ops.listening"]
        async with ClientSession() as session, session.get(f"{addresses[0]}/metrics") as response:
            return await response.text()

    async def ready(self, connection: Any) -> None:
        """Wait until its workers own all shards, each its share."""
        deadline = time.monotonic() + START_SECONDS
        while not await connection.fetchval(ALL_OWNED, self._workers):
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"`dispatcher serve` did not begin to work. It said:\n{self.log.read_text()}")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Drain and end it."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def serve(
    url: str, folder: Path, connection: Any, *, workers: int = 1, settings: str = ""
) -> AsyncIterator[Service]:
    """Run the service for as long as this is open; its files go to `folder`.

    `connection`: to its database, to see whether it is ready. `settings`: further TOML, below those that it always has.
    """
    configuration, log = folder / "config.toml", folder / "log"
    configuration.write_text(CONFIGURATION.format(url=orjson.dumps(url).decode()) + settings)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dispatcher",
            "serve",
            f"--workers={workers}",
            f"--config={configuration}",
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    service = Service(process, log, workers=workers)
    try:
        await service.ready(connection)
        yield service
    finally:
        await service.stop()
