"""Processes that play a part in a benchmark and talk with it in lines of JSON, over their stdin and stdout.

A part is a module of this package that can be run. It ends when its stdin does, so none outlives the benchmark.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from benchmarks.errors import BenchmarkError

ROOT: Final = Path(__file__).parent.parent
"""Where `benchmarks` and `dispatcher` can be imported from."""

LINE_LIMIT: Final = 1 << 26
"""Bytes of the longest line: some samples of requests with large bodies."""

END_SECONDS: Final = 5.0
"""For a part to end after its stdin did."""

Answer = dict[str, Any]


class Child:
    """One such process, as seen from the benchmark."""

    def __init__(self, part: str, process: asyncio.subprocess.Process) -> None:
        self._part = part
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, within: float, **request: Any) -> Answer:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(request) + b"\n")
        await self._process.stdin.drain()
        return await self.hear(within)

    async def hear(self, within: float) -> Answer:
        """Wait for what it says next."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchmarkError(f"The {self._part} did not answer within {within:g} s.") from None
        if not line:
            raise BenchmarkError(f"The {self._part} ended unasked; what it had to say is above.")
        answer: Answer = orjson.loads(line)
        return answer

    async def end(self) -> None:
        """Let it end; one that does not is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def child(part: str, *arguments: str) -> AsyncIterator[Child]:
    """Run `benchmarks.<part>` for as long as this is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"benchmarks.{part}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT,
        cwd=ROOT,
    )
    running = Child(part, process)
    try:
        yield running
    finally:
        await running.end()


def say(**answer: Any) -> None:
    """Say something to the benchmark, from inside of a part."""
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


async def requests() -> AsyncIterator[Answer]:
    """Hear what the benchmark asks, from inside of a part, until it ends."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield orjson.loads(line)


def play(part: Callable[[], Awaitable[None]]) -> None:
    """Run a part under uvloop."""

    async def run() -> None:
        await part()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
