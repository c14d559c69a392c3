"""The sender against aiohttp's own client: whatever a receiver answers, both must make the same of it.

The sender drives aiohttp's protocol and parser by itself, and leaves the parser in place from answer to answer; this is what
tells when a new aiohttp changes what that rests on.
"""

from typing import Final

import aiohttp
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from dispatcher.model import Answered
from support.egress import LIMIT, Runner, both_loops, post, sending
from support.receiver import Behaviour, Exchange, Receiver, answer, endless_body, head, raw

PROVEN: Final = "3.14."
"""The aiohttp that all of this is known to hold for."""

PAUSE: Final = 0.002
"""Seconds between two pieces of an answer, so that they are read one by one."""

Seen = tuple[int, tuple[tuple[str, str], ...], bytes]
"""Status, headers and body of an answer."""

PLAIN: Final = answer(200, headers={"X-Which": "plain"}, body=b"plain")


def pieces(*chunks: bytes, close: bool = False) -> Behaviour:
    """Send an answer in pieces."""

    async def behave(exchange: Exchange) -> None:
        for chunk in chunks:
            await exchange.send(chunk)
            await exchange.pause(PAUSE)
        if close:
            exchange.close()

    return behave


def bytewise(data: bytes) -> Behaviour:
    """Send an answer byte by byte."""
    return pieces(*(data[place : place + 1] for place in range(len(data))))


CHUNKED: Final = head(200, {"Transfer-Encoding": "chunked"})

ANSWERS = [
    pytest.param(PLAIN, id="plain"),
    pytest.param(answer(204), id="204"),
    pytest.param(answer(304), id="304"),
    pytest.param(answer(304, headers={"Content-Length": "5"}), id="304 with the length of what it stands for"),
    pytest.param(raw(head(204, {"Content-Length": "2"}) + b"ok", close=False), id="204 with a body"),
    pytest.param(pieces(head(204, {"Content-Length": "2"}), b"ok"), id="204 with a body that comes later"),
    pytest.param(pieces(head(200, {"Content-Length": "2"}) + b"okmore"), id="more than announced"),
    pytest.param(pieces(head(200, {"Content-Length": "2"}) + b"ok", b"\r\n"), id="an empty line behind"),
    pytest.param(answer(500, body=b"x" * (LIMIT - 1)), id="500 with a body"),
    pytest.param(answer(200, body=b"x" * LIMIT), id="just as long as is read"),
    pytest.param(answer(302, headers={"Location": "/elsewhere"}), id="redirect"),
    pytest.param(answer(200, headers={"Connection": "close"}, body=b"last"), id="Connection: close"),
    pytest.param(answer(200, headers={"Connection": "upgrade", "Upgrade": "h2c"}, body=b"up"), id="offers an upgrade"),
    pytest.param(answer(200, headers={"Content-Encoding": "gzip"}, body=b"no gzip"), id="claims to be compressed"),
    pytest.param(answer(200, headers={"X-Twice": "a, b", "x-twice": "c"}, body=b"ok"), id="a header twice"),
    pytest.param(answer(200, headers={"X-Odd": "caf\xe9"}, body=b"ok"), id="latin-1"),
    pytest.param(raw(head(200, {}) + b"until the end"), id="no length"),
    pytest.param(raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), id="HTTP/1.0"),
    pytest.param(raw(b"HTTP/1.0 200 OK\r\n\r\nok"), id="HTTP/1.0 without a length"),
    pytest.param(raw(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", close=False), id="no reason"),
    pytest.param(raw(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", close=False), id="chunked"),
    pytest.param(raw(CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", close=False), id="chunk extension"),
    pytest.param(raw(CHUNKED + b"2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n", close=False), id="trailer"),
    pytest.param(raw(CHUNKED + b"0\r\n\r\n", close=False), id="chunked and empty"),
    pytest.param(pieces(CHUNKED, b"2\r\nok\r", b"\n0\r\n", b"\r\n"), id="chunked in pieces"),
    pytest.param(pieces(head(200, {"Content-Length": "4"}), b"ab", b"cd"), id="body in pieces"),
    pytest.param(pieces(head(200, {"Content-Length": "4"})[:20], head(200, {"Content-Length": "4"})[20:] + b"abcd"), id="head in pieces"),
    pytest.param(bytewise(head(201, {"Content-Length": "2"}) + b"ok"), id="byte by byte"),
    pytest.param(raw(head(100, {}) + head(200, {"Content-Length": "2"}) + b"ok", close=False), id="100 first"),
    pytest.param(pieces(head(100, {}), head(103, {"Link": "</a>"}), head(200, {"Content-Length": "2"}) + b"ok"), id="100 and 103 first"),
    pytest.param(raw(head(200, {"Content-Length": "9"}) + b"x"), id="closes in the body"),
    pytest.param(raw(CHUNKED + b"5\r\nx"), id="closes in a chunk"),
    pytest.param(raw(CHUNKED + b"zz\r\n", close=False), id="bad chunk"),
    pytest.param(pieces(CHUNKED + b"2\r\nok\r\n", b"zz\r\n"), id="bad second chunk"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", close=False), id="two lengths"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", close=False), id="length and chunked"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", close=False), id="signed length"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n", close=False), id="blank before the colon"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", close=False), id="folded header"),
    pytest.param(raw(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", close=False), id="bare line feeds"),
    pytest.param(raw(b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", close=False), id="status of two digits"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n", close=False), id="NUL in a header"),
    pytest.param(raw(b"ICY 200 OK\r\n\r\n"), id="no HTTP"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", close=False), id="long header"),
]  # fmt: skip


async def with_sender(behaviours: list[Behaviour]) -> list[Seen | None]:
    """What the sender makes of these answers, one after the other; null: nothing that is an answer."""
    seen: list[Seen | None] = []
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/hook", *behaviours)
        for _ in behaviours:
            outcome = await post(sender, f"{receiver.url}/hook")
            if isinstance(outcome, Answered) and not outcome.body_cut:
                seen.append((outcome.status, outcome.headers, outcome.body))
            else:
                seen.append(None)
    return seen


async def with_client(behaviours: list[Behaviour]) -> list[Seen | None]:
    """What aiohttp's own client makes of them."""
    seen: list[Seen | None] = []
    async with Receiver() as receiver, ClientSession(auto_decompress=False, timeout=ClientTimeout(5.0)) as session:
        receiver.on("/hook", *behaviours)
        for _ in behaviours:
            try:
                async with session.post(f"{receiver.url}/hook", data=b"{}", allow_redirects=False) as response:
                    headers = tuple(
                        (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers
                    )
                    seen.append((response.status, headers, await response.read()))
            except (ClientError, HttpProcessingError, OSError):
                seen.append(None)
    return seen


@both_loops
@pytest.mark.parametrize("behaviour", ANSWERS)
def test_both_make_the_same_of_an_answer(behaviour: Behaviour, run: Runner) -> None:
    """On a fresh connection, on one that was used before, and of the answers that follow."""

    async def scenario() -> None:
        script = [behaviour, PLAIN, behaviour, behaviour, PLAIN]

        ours = await with_sender(script)

        assert await with_client(script) == ours

    run(scenario())


@both_loops
def test_what_follows_a_flood_is_its_own_answer(run: Runner) -> None:
    """An answer that is cut is the last on its connection."""

    async def scenario() -> None:
        _, plain = await with_sender([endless_body, PLAIN])

        assert plain is not None
        assert plain[2] == b"plain"

    run(scenario())


def test_this_aiohttp_is_known() -> None:
    """All of the above must be run, and read, for another one; then the number here is raised."""
    assert aiohttp.__version__.startswith(PROVEN)


def test_what_is_used_of_aiohttp_is_there() -> None:
    """Names that it does not promise, but which the sender's protocol rests on."""
    assert {"_reading_paused", "_buffer_paused"} <= set(BaseProtocol.__slots__)
    assert all(hasattr(ResponseHandler, name) for name in ("__len__", "read", "should_close", "set_response_params"))
    assert hasattr(StreamReader, "read_nowait")
