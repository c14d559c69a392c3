"""Real `dispatcher serve` processes: started, watched by their log, killed or ended; none outlives its test.

async with serving(database, workers=2) as process:
    ...
    assert await process.terminate() == 0
    assert process.logged("service.stopped")
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from support.world import until

READY_SECONDS = 30.0
"""For interpreters to start and migrations to be looked at, on a machine that does much else."""

END_SECONDS = 40.0
"""More than any grace and patience that the tests set."""

FREQUENT = {"delivery.attempted", "result.late"}
"""Events that are left out where the end of the log is shown."""

SHOWN = 40
"""Lines of the log that a failure shows."""

LINE_LIMIT = 1 << 20
"""Bytes: a structured traceback is one line."""

VARIABLES: Mapping[str, str] = {
    "egress__https_only": "false",
    "egress__allow_subnets": "127.0.0.0/8",
    "retry__jitter": "0",
    "shards__lease": "2s",
    "api__listen": "127.0.0.1:0",
    "ops__listen": "127.0.0.1:0",
    "delivery__grace": "5s",
    "log__format": "json",
}
"""For a receiver on loopback, and for tests that wait until leases run out."""


class Serving:
    """One `dispatcher serve` with the processes that it starts."""

    def __init__(self, process: asyncio.subprocess.Process, *, workers: int) -> None:
        self.pid = process.pid
        self.lines: list[Mapping[str, Any]] = []
        """The log so far."""
        self.said = ""
        """What came that is no line of the log: messages for people, tracebacks."""
        self._process = process
        self._workers = workers
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while line := await stream.readline():
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))
            else:
                self.said += line.decode(errors="replace")

    # its log

    def logged(self, event: str, **values: Any) -> list[Mapping[str, Any]]:
        """The lines of one event so far, those with these values."""
        return [line for line in self.lines if line["event"] == event and values.items() <= line.items()]

    async def says(self, event: str, *, count: int = 1, timeout: float = 15.0, **values: Any) -> Mapping[str, Any]:
        """Wait for the `count`th line of an event, and return it."""

        def heard() -> bool:
            if len(self.logged(event, **values)) >= count:
                return True
            assert not self._readers[0].done(), f"It ended before it said {event}.\n{self.tail()}"
            return False

        await until(heard, timeout=timeout, why=f"{event} {values or ''} of process {self.pid}")
        return self.logged(event, **values)[count - 1]

    def tail(self) -> str:
        """The end of the log, for failures."""
        quiet = [line for line in self.lines if line["event"] not in FREQUENT]
        return "\n".join([*(json.dumps(line) for line in quiet[-SHOWN:]), self.said[-4000:]])

    # its ops listener

    async def ready(self) -> None:
        """Wait until all its workers work and it says so."""
        await self.says("worker.started", count=self._workers, timeout=READY_SECONDS)
        await self.says("ops.listening")
        await until(self.is_ready, timeout=READY_SECONDS, why="/readyz")

    async def is_ready(self) -> bool:
        """Ask /readyz."""
        return (await self.get("/readyz"))[0] == 200

    async def get(self, path: str, *, timeout: float = 10.0) -> tuple[int, str]:
        """Ask the ops listener; status and body."""
        address = self.logged("ops.listening")[-1]["address"]
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout)) as session,
            session.get(address + path) as response,
        ):
            return response.status, await response.text()

    # its processes

    def workers(self) -> list[psutil.Process]:
        """The worker processes, where it starts some: they lead process groups of their own."""
        children = psutil.Process(self.pid).children()
        return [child for child in children if child.is_running() and os.getpgid(child.pid) == child.pid]

    def family(self) -> list[int]:
        """All of its session, also those that have lost their parent, and not those that have ended."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def kill(self) -> None:
        """Kill it and all its processes with -9, at one moment as far as that is possible."""
        family = self.family()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the first process alone."""
        self._process.send_signal(number)

    async def ended(self, *, timeout: float = END_SECONDS) -> int:
        """Wait until it has ended by itself, its log is read to the end, and return its exit code."""
        async with asyncio.timeout(timeout):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def terminate(self, *, timeout: float = END_SECONDS) -> int:
        """Ask it to drain, and wait until it has ended; its exit code."""
        self.signal()
        return await self.ended(timeout=timeout)

    async def close(self) -> None:
        """Let nothing of it live on."""
        if self._process.returncode is None:
            self.kill()
        else:
            for pid in self.family():
                os.kill(pid, signal.SIGKILL)
        await self.ended()


@asynccontextmanager
async def serving(
    database: str | None, *, workers: int = 1, wait: bool = True, roles: str | None = None, **variables: str
) -> AsyncIterator[Serving]:
    """Run `dispatcher serve`; `egress__timeout="1s"` sets a key of a section.

    `database`: null for the embedded one of `database__data_directory`. With `wait`, give it once it is ready.
    """
    chosen = {**VARIABLES, **({} if database is None else {"database__url": database}), **variables}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    with tempfile.TemporaryDirectory(prefix="dispatcher-test-") as folder:
        if database is not None:
            inherited["TMPDIR"] = folder  # what a killed one leaves behind goes with it
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatcher", "serve", "--workers", str(workers)),
            *(() if roles is None else ("--roles", roles)),
            env=inherited | {f"DISPATCHER_{name.upper()}": value for name, value in chosen.items()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(folder),
            limit=LINE_LIMIT,
            start_new_session=True,
        )
        service = Serving(process, workers=workers)
        try:
            if wait:
                await service.ready()
            yield service
        except BaseException as error:
            error.add_note(f"The end of the log of {service.pid}:\n{service.tail()}")
            raise
        finally:
            await service.close()
