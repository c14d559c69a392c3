"""What is written to the log, and how."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog

from dispatcher import logs

ID = UUID("0199aaaa-0000-7000-8000-000000000000")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.TextIOWrapper) -> list[dict[str, Any]]:
    """The JSON lines written to a stream."""
    stream.seek(0)
    return [json.loads(line) for line in stream.read().splitlines()]


def open_stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    """A stream as stdout is one, in memory."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def test_an_event_is_one_line_of_json() -> None:
    """Time in UTC, level and event first, then the data."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    structlog.get_logger().info("delivery.attempted", event_id=ID, attempt=1, milliseconds=1.5)

    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "event_id", "attempt", "milliseconds"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["event_id"]) == ("info", "delivery.attempted", str(ID))


class Written(io.RawIOBase):
    """A file that remembers each writing."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Remember it."""
        self.chunks.append(bytes(data))
        return len(data)


async def test_what_is_said_in_one_turn_of_the_loop_is_written_together() -> None:
    """In order, at the end of the turn, or at once with a warning."""
    file = Written()
    logs.configure(format="json", stream=io.TextIOWrapper(io.BufferedWriter(file)))
    logger = structlog.get_logger()

    logger.info("one")
    logger.info("two")
    await asyncio.sleep(0)
    logger.info("three")
    logger.warning("four")

    events = [[json.loads(line)["event"] for line in chunk.splitlines()] for chunk in file.chunks]
    assert events == [["one", "two"], ["three", "four"]]


@pytest.mark.parametrize(
    "instant, shown",
    [(1792594800.5, "2026-10-21T15:00:00.500000Z"), (1792594800.0, "2026-10-21T15:00:00.000000Z")],
)
def test_instants_are_written_to_the_microsecond(instant: float, shown: str) -> None:
    """Always with six digits, in UTC."""
    line = logs._JsonLine(lambda: instant)(None, "info", {"event": "step.done"})

    assert json.loads(line)["timestamp"] == shown


def test_what_a_context_binds_comes_last() -> None:
    """As the number of a worker does, whose lines come out of one stdout with those of others."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    with structlog.contextvars.bound_contextvars(worker=1):
        structlog.get_logger().info("step.done", taken=2)

    assert list(lines(stream)[0]) == ["timestamp", "level", "event", "taken", "worker"]


def test_what_is_below_the_level_is_not_written() -> None:
    """Neither ours nor a library's."""
    stream = open_stream()
    logs.configure(format="json", level="warning", stream=stream)

    structlog.get_logger().info("delivery.attempted")
    logging.getLogger("aiohttp.server").info("hello")
    structlog.get_logger().warning("database.lost")

    assert [line["event"] for line in lines(stream)] == ["database.lost"]


def test_what_a_library_logs_is_one_event() -> None:
    """Its words are data; its name is the logger's."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    logging.getLogger("aiohttp.server").error("Error %s", "x")

    (line,) = lines(stream)
    assert (line["event"], line["message"], line["logger"], line["level"]) == (
        "library.logged",
        "Error x",
        "aiohttp.server",
        "error",
    )


def test_requests_to_our_listeners_are_not_logged_one_by_one() -> None:
    """Probes and scrapes would drown the rest; `debug` shows them."""
    quiet, chatty = open_stream(), open_stream()
    for stream, level in ((quiet, "info"), (chatty, "debug")):
        logs.configure(format="json", level=level, stream=stream)
        logging.getLogger("aiohttp.access").info("GET /healthz")

    assert (len(lines(quiet)), len(lines(chatty))) == (0, 1)


def test_warnings_of_python_are_logged() -> None:
    """They go where everything goes."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert "old" in lines(stream)[0]["message"]


@pytest.mark.parametrize("kind", ["json", "console"])
def test_an_exception_shows_no_values(kind: logs.Format) -> None:
    """Variables on the stack may hold secrets; where it happened and what it was is enough."""
    stream = open_stream()
    logs.configure(format=kind, stream=stream)

    def fail() -> None:
        secret = "sword" + "fish"
        int(f"{len(secret)} of them")

    for log in (structlog.get_logger().exception, logging.getLogger("library").exception):
        try:
            fail()
        except ValueError:
            log("step.broke")

    stream.seek(0)
    written = stream.read()
    assert written.count("invalid literal for int()") == 2
    assert "swordfish" not in written


def test_an_exception_is_structured() -> None:
    """Type, text and frames are data."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    try:
        int("no")
    except ValueError:
        structlog.get_logger().exception("step.broke")

    (exception,) = lines(stream)[0]["exception"]
    assert exception["exc_type"] == "ValueError"
    assert exception["exc_value"].endswith("'no'")


def test_secrets_are_masked() -> None:
    """Should one be logged by mistake, its name is all that is seen."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)

    structlog.get_logger().info("service.started", password="swordfish", secret="", token="swordfish")

    (line,) = lines(stream)
    assert (line["password"], line["secret"], line["token"]) == (True, False, True)


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**70, {1: 2}, {"a": {3}}, b"\xff", float("nan"), object],
    ids=["half a surrogate pair", "big", "number as a key", "set", "bytes", "no number", "class"],
)
def test_a_line_is_written_whatever_it_holds(value: object) -> None:
    """Logging never fails for a value."""
    stream = open_stream("ascii")
    logs.configure(format="json", stream=stream)

    structlog.get_logger().info("x.happened", value=value, text="é")

    stream.seek(0)
    assert b'"x.happened"' in bytes(stream.buffer.read())


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """A closed pipe or a full disk is no reason to stop delivering."""
    stream = open_stream()
    logs.configure(format="json", stream=stream)
    stream.close()

    structlog.get_logger().info("delivery.attempted")
    logging.getLogger("library").error("x")


def test_auto_is_readable_in_a_terminal_alone() -> None:
    """Elsewhere it is JSON."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), open_stream()
    for stream in (terminal, pipe):
        logs.configure(format="auto", stream=stream)
        structlog.get_logger().info("service.started", workers=2)

    assert not terminal.getvalue().startswith("{")
    assert "service.started" in terminal.getvalue()
    assert lines(pipe)[0]["workers"] == 2
