"""A small TCP proxy that drops, resets, delays or swallows what passes, on command: the outages of tests."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

Target = tuple[str, int] | Path
"""Host and port, or a Unix socket."""

CHUNK = 65_536


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to `target`, until told otherwise.

    `port` stays the same through `refuse` and `accept`, so that clients come back to it.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        """Seconds by which every piece of data is held back, in each direction."""
        self.connections = 0
        """How many were accepted so far."""
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.refuse()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def live(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Drop all connections and refuse new ones, as a host does whose server is gone."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.drop()

    def drop(self) -> None:
        """Close all connections in order; new ones are taken."""
        for link in tuple(self._links):
            link.client.close()
            link.server.close()

    def reset(self) -> None:
        """Tear all connections down with RST; new ones are taken."""
        for link in tuple(self._links):
            for writer in (link.client, link.server):
                _linger_not(writer)
                writer.transport.abort()

    def swallow(self) -> None:
        """Hold everything back from now on, as a network does that lost the way: nobody is told."""
        self._open.clear()

    def release(self) -> None:
        """Let pass again, what was held back first."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.close()
            return
        link = _Link(client=writer, server=server_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, server_writer))
                group.create_task(self._pass(server_reader, writer))
        except asyncio.CancelledError:
            # the proxy is closed; asyncio's own callback on this task would report a cancellation as an error
            pass
        finally:
            self._links.discard(link)
            for end in (writer, server_writer):
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


def _linger_not(writer: asyncio.StreamWriter) -> None:
    """Make the next close send RST, where the connection is TCP."""
    handle = writer.get_extra_info("socket")
    if handle is not None and handle.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
