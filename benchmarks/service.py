"""The service under test: a real `dispatcher serve` with a real configuration, its logs in a file."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import ClientSession

from benchmarks.children import ROOT
from benchmarks.errors import BenchmarkError

START_SECONDS: Final = 30.0
"""For the service to own its shards."""

STOP_SECONDS: Final = 30.0

CONFIGURATION: Final = """
[database]
url = {url}
[ops]
listen = "127.0.0.1:0"
[api]
listen = "127.0.0.1:0"
[egress]
https_only = false
allow_subnets = ["127.0.0.0/8"]
[log]
format = "json"
level = "info"
"""
"""All else is as it comes: logs are on, answers are stored, health is kept."""


class Service:
    """A running `dispatcher serve`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    def lines(self) -> list[dict[str, Any]]:
        """Read what it has logged."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]

    def complaints(self) -> list[str]:
        """List the warnings and errors that it has logged, in short."""
        loud = {"warning", "error", "critical"}
        return [str(line.get("event")) for line in self.lines() if line.get("level") in loud]

    async def metrics(self) -> str:
        """Ask it for its metrics."""
        addresses = [line["address"] for line in self.lines() if line.get("event") == "ops.listening"]
        async with ClientSession() as session, session.get(f"{addresses[0]}/metrics") as response:
            return await response.text()

    async def ready(self) -> None:
        """Wait until it owns all shards."""
        deadline = time.monotonic() + START_SECONDS
        while not await self._owns_all():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"`dispatcher serve` did not begin to work. It said:\n{self.log.read_text()}")
            await asyncio.sleep(0.1)

    async def _owns_all(self) -> bool:
        events = {line.get("event"): line for line in self.lines()}
        return "worker.started" in events and "shards.taken" in events

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
async def serve(url: str, folder: Path, *, in_flight: int | None) -> AsyncIterator[Service]:
    """Run the service with one worker for as long as this is open; its files go to `folder`.

    `in_flight`: requests at once, where it shall not be the default.
    """
    settings = CONFIGURATION.format(url=orjson.dumps(url).decode())
    if in_flight is not None:
        settings += f"[delivery]\nin_flight = {in_flight}\n"
    configuration, log = folder / "config.toml", folder / "log"
    configuration.write_text(settings)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dispatcher",
            "serve",
            "--config",
            str(configuration),
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    service = Service(process, log)
    try:
        await service.ready()
        yield service
    finally:
        await service.stop()
