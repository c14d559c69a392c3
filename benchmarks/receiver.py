"""The part of the subscribers: takes requests as cheaply as Python can, answers, and remembers what came, and when.

An `asyncio.Protocol` under uvloop. Understands what HTTP/1.1 clients send here (`Content-Length`, keep-alive), and no
more: it is meant to cost little, and the same for whoever calls. Answers 200 at once, unless a path was told otherwise.
"""

import asyncio
import re
import ssl
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, cast

import orjson

from benchmarks.children import play, requests, say

BODY: Final = b"ok"

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MESSAGE: Final = re.compile(rb"\r\nwebhook-id: *([^\r]*)", re.IGNORECASE)

HANG: Final = "hang"
"""Never answer."""

DRIP: Final = "drip"
"""Answer a byte every `DRIP_SECONDS`."""

DRIP_SECONDS: Final = 0.5

BACKLOG: Final = 4096
"""Connections that wait to be accepted: many come at once."""


class Book:
    """What came since the last reset."""

    def __init__(self) -> None:
        self.behaviours: Mapping[bytes, str | float] = {}
        self.hanging: list[asyncio.Transport] = []
        """Connections that may never get an answer."""
        self.expect(0, sample_every=0)

    def expect(self, count: int, *, sample_every: int) -> None:
        """Forget what came, and say so when `count` requests will have come; keep every n-th of them whole."""
        self.count = 0
        self.expected = count
        self.sample_every = sample_every
        self.keys: list[bytes] = []
        self.times: list[float] = []
        self.samples: list[dict[str, Any]] = []

    def behave(self, behaviours: Mapping[str, str | float]) -> None:
        """Answer some paths otherwise than at once from now on; who waited for what was before is hung up on."""
        self.behaviours = {path.encode(): behaviour for path, behaviour in behaviours.items()}
        for transport in self.hanging:
            transport.abort()
        self.hanging.clear()

    def enter(self, path: bytes, head: bytes, body: bytes) -> None:
        """Note one request."""
        message = MESSAGE.search(head)
        self.keys.append(path + b" " + (message[1] if message else b"?"))
        self.times.append(time.monotonic())
        self.count += 1
        if self.sample_every and self.count % self.sample_every == 1 % self.sample_every:
            self.samples.append(
                {
                    "path": path.decode(),
                    "head": head.decode("latin-1"),
                    "body": body.decode("utf-8", "replace"),
                    "at": time.time(),
                }
            )
        if self.count == self.expected:
            say(complete=self.count)

    def report(self, file: Path) -> dict[str, Any]:
        """Write down which deliveries came and when, a line each in the order they came, and tell the rest."""
        with file.open("wb") as lines:
            lines.writelines(b"%s %.6f\n" % entry for entry in zip(self.keys, self.times, strict=True))
        return {"received": self.count, "samples": self.samples}


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        # what servers usually say, because clients parse and keep it
        self._answer = (
            f"HTTP/1.1 200 OK\r\nServer: receiver\r\nDate: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is none

    def data_received(self, data: bytes) -> None:
        """Answer each whole request that has come."""
        assert self._transport is not None
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            path = head.split(b" ", 2)[1]
            behaviour = self._book.behaviours.get(path)
            if behaviour not in {HANG, DRIP}:  # the others are counted where they are answered
                self._book.enter(path, head, self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            if behaviour is None:
                self._transport.write(self._answer)
            else:
                self._misbehave(behaviour)

    def _misbehave(self, behaviour: str | float) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        if behaviour in {HANG, DRIP}:
            self._book.hanging.append(self._transport)
        match behaviour:
            case float() | int():
                loop.call_later(behaviour, self._write, self._answer)
            case str() if behaviour == DRIP:
                for number in range(len(self._answer)):
                    loop.call_later(number * DRIP_SECONDS, self._write, self._answer[number : number + 1])
            case _:
                pass

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(data)


async def listen(book: Book, wanted: Mapping[str, Any]) -> int:
    """Listen on one free port of all wanted addresses; returns it."""
    context = None
    if wanted.get("certificate"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(wanted["certificate"])
    port = 0
    for host in wanted["hosts"]:
        server = await asyncio.get_running_loop().create_server(
            lambda: Server(book), host, port, backlog=BACKLOG, ssl=context
        )
        port = server.sockets[0].getsockname()[1]
    return port


async def serve() -> None:
    """Listen, say where, and do as told. The one argument, JSON: `hosts`, and `certificate`, a PEM file with its key."""
    book = Book()
    say(port=await listen(book, orjson.loads(sys.argv[1])))
    async for request in requests():
        match request:
            case {"expect": count, "sample_every": sample_every}:
                book.expect(count, sample_every=sample_every)
                say(ready=True)
            case {"behave": behaviours}:
                book.behave(behaviours)
                say(ready=True)
            case {"count": True}:
                say(count=book.count)
            case {"report": file}:
                say(**book.report(Path(file)))


if __name__ == "__main__":
    play(serve)
