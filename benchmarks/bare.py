"""The part to compare with: a bare aiohttp client loop that posts bodies and does nothing else.

What anyone would write: one `ClientSession`, some tasks, `session.post` and `read`, under uvloop. It signs, records and
logs nothing, asks no database, and has no time limit of its own.
"""

import asyncio
import resource
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from benchmarks import events
from benchmarks.children import play, requests, say

Post = tuple[str, bytes, dict[str, str]]

SIGNATURE: Final = "v1," + "A" * 43 + "="
"""As long as a real one."""


def make_posts(urls: list[str], *, count: int, size: int) -> list[Post]:
    """Prepare all that is posted, before the clock runs."""
    stamp = str(int(time.time()))
    return [
        (
            urls[number % len(urls)],
            events.body(number, size),
            {
                "Content-Type": "application/json",
                "User-Agent": "bare",
                "webhook-id": str(uuid4()),
                "webhook-timestamp": stamp,
                "webhook-signature": SIGNATURE,
            },
        )
        for number in range(count)
    ]


async def drain(session: ClientSession, posts: Iterator[Post]) -> None:
    """Post what is left, one after the other."""
    for url, body, headers in posts:
        async with session.post(url, data=body, headers=headers) as response:
            await response.read()


async def post_all(session: ClientSession, posts: list[Post], in_flight: int) -> None:
    """Post all, `in_flight` at once."""
    left = iter(posts)
    await asyncio.gather(*(drain(session, left) for _ in range(in_flight)))


def cpu_seconds() -> float:
    """Processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve() -> None:
    """Post when told to: first some, so that the connections stand, then what counts. Argument: a CA file, for https."""
    context = ssl.create_default_context(cafile=sys.argv[1]) if len(sys.argv) > 1 else True
    connector = TCPConnector(limit=0, ssl=context)
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=None)) as session:
        async for request in requests():
            posts = make_posts(request["urls"], count=request["count"], size=request["size"])
            warm_up = make_posts(request["urls"], count=request["warm_up"], size=request["size"])
            await post_all(session, warm_up, request["in_flight"])
            started, cpu = time.perf_counter(), cpu_seconds()
            await post_all(session, posts, request["in_flight"])
            say(seconds=time.perf_counter() - started, cpu=cpu_seconds() - cpu)


if __name__ == "__main__":
    play(serve)
