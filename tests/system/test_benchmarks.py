"""The benchmarks run, and what they assert holds. Never a time: that is theirs to print."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from standardwebhooks import Webhook

from benchmarks import events, plot, subscribers
from benchmarks.errors import BenchmarkError
from benchmarks.stage import check
from dispatcher.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]

WITHIN = 120.0
"""Seconds; some on a quiet machine."""

SCENARIOS = {
    "throughput": ("throughput", "--events=300", "--endpoints=3", "--runs=1", "--rate=500", "--https"),
    "latency": ("latency", "--rate=100", "--seconds=1", "--runs=1", "--full=300", "--endpoints=2"),
    "isolation": ("isolation", "--good=3", "--rate=100", "--seconds=1", "--waiting=500", "--runs=1"),
    "backlog": ("backlog", "--pending=2000", "--events=200", "--runs=1", "--endpoints=3"),
    "scale": ("scale", "--workers=2", "--events=300", "--endpoints=16", "--runs=1"),
    "soak": ("soak", "--seconds=3", "--pending=100", "--endpoints=2", "--bare=100"),
    "sparse": ("sparse", "--endpoints=100", "--hosts=3", "--runs=1"),
}


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


@pytest.mark.system
@pytest.mark.parametrize("arguments", SCENARIOS.values(), ids=SCENARIOS.keys())
async def test_a_scenario_delivers_each_event_once(
    postgres_server: EmbeddedPostgres, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """All that was meant to arrive did, once and rightly signed; figures and plot are there."""
    file, drawing = tmp_path / "figures.json", tmp_path / "plot.svg"
    server = postgres_server.url_of("postgres")

    code, output = await run_benchmark(*arguments, f"--postgres={server}", f"--json={file}", f"--plot={drawing}")

    assert code == 0, output
    result: dict[str, Any] = orjson.loads(file.read_bytes())
    checked = result["checked"]
    assert (checked["lost"], checked["duplicates"]) == (0, 0)
    assert checked["delivered"] >= 100
    assert checked["verified"] >= 10
    for case in result["cases"]:
        for run in case["runs"]:
            assert run["ratio"] > 0
            assert min(run["postgres_cpu"], run["receiver_cpu"], run["wal_bytes"]) >= 0
    assert ET.parse(drawing).getroot().tag.endswith("svg")


@pytest.mark.system
async def test_an_unreachable_server_is_told_in_a_sentence() -> None:
    """A wrong --postgres ends with a message, not with a traceback."""
    code, output = await run_benchmark("throughput", "--postgres=postgresql://127.0.0.1:1/none")

    assert code == 1
    assert "No connection to the server of --postgres" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "arrived",
    [[b"/a 1"], [b"/a 1", b"/b 2", b"/b 2"], [b"/a 1", b"/b 2", b"/c 3"], [b"/a 1", b"/a 2"]],
    ids=["lost", "doubled", "a stranger", "the wrong endpoint"],
)
def test_what_did_not_arrive_as_meant_is_an_error(arrived: list[bytes]) -> None:
    """A run in which anything is lost, doubled, unknown or misdirected has no figures."""
    with pytest.raises(BenchmarkError):
        check(arrived, {b"/a 1", b"/b 2"}, verified=0)


def sample(**changes: Any) -> dict[str, Any]:
    """What the receiver keeps of a request to the third endpoint, rightly signed but for `changes` of its parts."""
    parts = {"id": "m1", "stamp": 1_700_000_000, "body": "x" * 300, "at": 1_700_000_001.0, "endpoint": 2, **changes}
    signed = Webhook(subscribers.secret(2)).sign("m1", datetime.fromtimestamp(1_700_000_000, UTC), "x" * 300)
    lines = ("POST / HTTP/1.1", f"webhook-id: {parts['id']}", f"webhook-timestamp: {parts['stamp']}")
    head = "\r\n".join((*lines, f"webhook-signature: {signed}"))
    return {"path": f"/hooks/{parts['endpoint']}", "head": head, "body": parts["body"], "at": parts["at"]}


def test_a_sample_that_is_rightly_signed_counts() -> None:
    """However long ago it came."""
    assert subscribers.verify([sample()], size=300) == 1


@pytest.mark.parametrize(
    "changes",
    [{"id": "m2"}, {"stamp": 1_700_000_002}, {"body": "y" * 300}, {"endpoint": 3}, {"at": 1_700_000_100.0}],
    ids=["id", "timestamp", "body", "secret", "sent long before it came"],
)
def test_a_sample_that_was_tampered_with_is_an_error(changes: dict[str, Any]) -> None:
    """The benchmark ends with a message, and has no figures."""
    with pytest.raises(BenchmarkError):
        subscribers.verify([sample(**changes)], size=300)


def test_a_body_that_is_too_small_is_an_error() -> None:
    """What is compared has the size that was asked for."""
    with pytest.raises(BenchmarkError):
        subscribers.verify([sample()], size=301)


@pytest.mark.parametrize("number", [0, 9, 12345])
def test_a_payload_made_by_the_database_is_the_producers(number: int) -> None:
    """What stands around the number is the same, up to the digits that the filling makes up for."""
    before, after = events.payload_around(300)

    payload = f"{before}{number}{after}"

    assert payload.replace("x", "") == events.payload(number, 300).replace("x", "")
    assert len(payload) == len(events.payload(0, 300)) + len(str(number)) - 1


def test_a_chart_of_nothing_is_drawn() -> None:
    """A figure that could not be measured leaves an empty chart, not a failure."""
    drawing = plot.draw([plot.Chart(title="<nothing>", across="&", series=(plot.Series("none", ()),))])

    assert ET.fromstring(drawing).tag.endswith("svg")
