"""The benchmarks run, and what they assert holds. Never a time: that is theirs to print."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from dispatcher.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]

WITHIN = 120.0
"""Seconds; some on a quiet machine."""

pytestmark = pytest.mark.system


async def run_benchmark(*arguments: str) -> tuple[int, str]:
    """Run `python -m benchmarks`; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("load", [(), ("--rate", "500")], ids=["backlog", "stream"])
async def test_throughput_delivers_each_event_once(
    postgres_server: EmbeddedPostgres, tmp_path: Path, load: tuple[str, ...]
) -> None:
    """Every event of every run arrives once, rightly signed, and every figure is there."""
    file = tmp_path / "figures.json"
    server = postgres_server.url_of("postgres")

    code, output = await run_benchmark(
        "throughput", "--events=300", "--endpoints=3", "--runs=2", f"--postgres={server}", f"--json={file}", *load
    )

    assert code == 0, output
    runs: list[dict[str, Any]] = orjson.loads(file.read_bytes())["runs"]
    assert [(run["delivered"], run["lost"], run["duplicates"]) for run in runs] == [(300, 0, 0)] * 2
    assert all(run["verified"] >= 50 for run in runs)
    assert all(run["ratio"] > 0 and run["postgres_cpu"] is not None for run in runs)


async def test_an_unreachable_server_is_told_in_a_sentence() -> None:
    """A wrong --postgres ends with a message, not with a traceback."""
    code, output = await run_benchmark("throughput", "--postgres=postgresql://127.0.0.1:1/none")

    assert code == 1
    assert "No connection to the server of --postgres" in output
    assert "Traceback" not in output
