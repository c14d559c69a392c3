"""The part of the subscribers: takes requests as cheaply as Python can, answers 200, and remembers what came.

An `asyncio.Protocol` under uvloop. Understands what HTTP/1.1 clients send here (`Content-Length`, keep-alive), and no
more: it is meant to cost little, and the same for whoever calls.
"""

import asyncio
import re
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.children import play, requests, say

BODY: Final = b"ok"

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MESSAGE: Final = re.compile(rb"\r\nwebhook-id: *([^\r]*)", re.IGNORECASE)


class Book:
    """What came since the last reset."""

    def __init__(self) -> None:
        self.expect(0, sample_every=0)

    def expect(self, count: int, *, sample_every: int) -> None:
        """Forget what came, and say so when `count` requests will have come; keep every n-th of them whole."""
        self.count = 0
        self.expected = count
        self.sample_every = sample_every
        self.keys: list[bytes] = []
        self.samples: list[dict[str, Any]] = []

    def enter(self, head: bytes, body: bytes) -> None:
        """Note one request."""
        message = MESSAGE.search(head)
        path = head.split(b" ", 2)[1]
        self.keys.append(path + b" " + (message[1] if message else b"?"))
        self.count += 1
        if self.sample_every and self.count % self.sample_every == 1:
            self.samples.append(
                {"path": path.decode(), "head": head.decode("latin-1"), "body": body.decode("utf-8", "replace")}
            )
        if self.count == self.expected:
            say(complete=self.count)

    def report(self, file: Path) -> dict[str, Any]:
        """Write down which deliveries came, a line each, and tell the rest."""
        file.write_bytes(b"\n".join(self.keys))
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
            self._book.enter(head, self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            self._transport.write(self._answer)


async def serve() -> None:
    """Listen on a free port, say which, and do as told."""
    book = Book()
    server = await asyncio.get_running_loop().create_server(lambda: Server(book), "127.0.0.1", 0, backlog=4096)
    say(port=server.sockets[0].getsockname()[1])
    async for request in requests():
        match request:
            case {"expect": count, "sample_every": sample_every}:
                book.expect(count, sample_every=sample_every)
                say(ready=True)
            case {"report": file}:
                say(**book.report(Path(file)))
    server.close()


if __name__ == "__main__":
    play(serve)
