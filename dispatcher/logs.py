"""Sets up logging: structlog for us, the same lines for libraries that use `logging`; JSON, or readable in a terminal.

Events of ours are constant `noun.verbed` names with data as keys. What a library says is one event, `library.logged`,
with its words in `message`. Exceptions are structured, without the values of variables, which may be secrets.
"""

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "json", "console"]

MASKED = frozenset(
    {"api_key", "authorization", "password", "secret", "secrets", "sealing_key", "token", "url_with_password"}
)
"""Keys whose values are never written, should one be logged by mistake."""

_NOISY = ("aiohttp.access",)
"""Loggers that say something for every request; `debug` shows them."""


def configure(*, format: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002 - `[log] format`
    """Set up logging of this process, to stdout unless told otherwise; can be called again.

    `level` is `debug`, `info`, `warning`, `error` or `critical`. `auto` is `console` if the stream is a terminal.
    """
    stream = stream or sys.stdout
    readable = format == "console" or (format == "auto" and stream.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    out = _Out(stream)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    rendering = _console(colours=stream.isatty()) if readable else _JSON
    structlog.configure(
        processors=[*common, *rendering] if readable else [_JsonLine()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*common, _from_library],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = _Handler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if number <= logging.DEBUG else logging.WARNING)
    logging.captureWarnings(capture=True)


class _Out:
    """Write whole lines. A log that cannot be written, to a closed pipe or a full disk, stops no delivery.

    Inside of an event loop what is no warning goes out with all that is said in the same turn of it: to write line by line
    would be a call of the kernel for each. The stream's own buffer holds it meanwhile, which also the end of the process
    empties.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bytes = getattr(stream, "buffer", None)
        """Past the text layer, whose encoding may not know every character; a terminal's stand-in has none."""
        self._flushing = False

    def quiet(self, line: str | bytes) -> None:
        """Write a line that can wait for the end of this turn."""
        self._write(line)
        if self._flushing:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            self._flushing = True
            loop.call_soon(self._flush)

    def loud(self, line: str | bytes) -> None:
        """Write a line at once."""
        self._write(line)
        self._flush()

    def _write(self, line: str | bytes) -> None:
        try:
            if self._bytes is None:
                self._stream.write((line if isinstance(line, str) else line.decode()) + "\n")
            else:
                self._bytes.write((line if isinstance(line, bytes) else line.encode(errors="backslashreplace")) + b"\n")
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass

    def _flush(self) -> None:
        self._flushing = False
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    debug = info = quiet
    msg = warning = error = critical = exception = log = fatal = loud


class _Handler(logging.Handler):
    """Write what libraries log to the same place."""

    def __init__(self, out: _Out) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._out.msg(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler: a record that cannot be formatted must not stop its caller
            self.handleError(record)


def _from_library(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Give what a library says one constant event name."""
    record = event_dict.get("_record")
    event_dict["message"] = event_dict.pop("event", "")
    event_dict["event"] = "library.logged"
    if record is not None:
        event_dict["logger"] = record.name
    return event_dict


def _mask(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    if not MASKED.isdisjoint(event_dict):
        for name in MASKED & event_dict.keys():
            event_dict[name] = bool(event_dict[name])
    return event_dict


class _JsonLine:
    """Make a line of JSON of an event of ours: what the processors do one by one elsewhere, in a tenth of their time.

    It lies on the way of every delivery: as a chain of processors the log was a seventh of what a delivery cost.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = -1.0
        self._stamp = ""

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> bytes:
        """Fill in what every line has, and write it."""
        if "exc_info" in event_dict:
            event_dict = _exceptions(logger, method, event_dict)
        line: EventDict = {
            "timestamp": self._timestamp(),
            "level": _LEVELS.get(method, method),
            "event": event_dict.pop("event", None),
            **event_dict,
        }
        return _json_of(_mask(logger, method, structlog.contextvars.merge_contextvars(logger, method, line)))

    def _timestamp(self) -> str:
        """Return the time as ISO 8601 in UTC, to the microsecond; all but the fraction is made once a second."""
        second, fraction = divmod(self._now(), 1)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int(fraction * 1e6):06d}Z"


_LEVELS: Mapping[str, str] = {"warn": "warning", "exception": "error", "fatal": "critical"}
"""Levels of the methods that are not called as theirs."""


def _to_json(_logger: WrappedLogger, _method: str, event_dict: MutableMapping[str, Any]) -> str:
    line = {
        "timestamp": event_dict.pop("timestamp", None),
        "level": event_dict.pop("level", None),
        "event": event_dict.pop("event", None),
        **event_dict,
    }
    return _json_of(line).decode()


def _json_of(line: Mapping[Any, Any]) -> bytes:
    """Write a line, whatever it holds: a value that JSON does not know is written as its text."""
    try:
        return orjson.dumps(line, default=str)
    except TypeError:  # a key that is no text, a lone surrogate, or a number beyond 64 bits
        return json.dumps(_plain(line), default=str).encode()


def _plain(line: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in line.items()}


_exceptions = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

_JSON: list[Processor] = [_exceptions, _to_json]


def _console(*, colours: bool) -> list[Processor]:
    # not rich's tracebacks, which show the values of variables
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
