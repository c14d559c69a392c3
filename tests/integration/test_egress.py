"""The sender against real receivers: whatever the other side does, one outcome comes back, in time and bounded.

Deadlines are short (`SOON`) where they are meant to pass and long (`AMPLE`) where they are not.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from aiohttp import ClientRequest, ClientTimeout
from aiohttp.client_exceptions import ClientConnectorError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from dispatcher.addresses import AddressPolicy
from dispatcher.dial import Connector, Forbidden, Progress, Protocol, SystemResolver, progress_here
from dispatcher.egress import IDLE_SECONDS, LINE_SECONDS, RESERVED_HEADERS, Request, Sender
from dispatcher.model import Answered, Blocked, Outcome, Unreachable, UnreachableReason
from support.names import Names
from support.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    answer,
    certificate,
    close_silently,
    drip_body,
    drip_head,
    endless_body,
    gzip_bomb,
    hang,
    hang_after,
    head,
    raw,
    redirect,
    reset,
    trusting,
)

SOON = 0.2
AMPLE = 5.0
LIMIT = 1000
"""Bytes of an answer that are read in these tests."""
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Spares each test the loading of the machine's authorities."""
SETTING = "`[egress] allow_subnets`"

Runner = Callable[[Coroutine[Any, Any, None]], None]
both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
"""Production runs on uvloop, which fails in its own ways; tests of failures therefore run on both."""


@contextlib.asynccontextmanager
async def sending(*allowed: Any, **settings: Any) -> AsyncIterator[Sender]:
    """A sender that may reach loopback unless told otherwise."""
    sender = Sender(
        AddressPolicy(allowed or LOOPBACK),
        **{
            "https_only": False,
            "user_agent": "tests/1",
            "answer_limit": LIMIT,
            "connect_timeout": AMPLE,
            "ssl_context": TRUSTS_NOBODY,
            **settings,
        },
    )
    try:
        yield sender
    finally:
        await sender.close()


async def post(sender: Sender, url: str, *, timeout: float = AMPLE, body: bytes = b"{}", **headers: str) -> Outcome:
    """Send a small request."""
    request = Request(url, {name.replace("_", "-"): value for name, value in headers.items()}, body, timeout)
    return await sender.send(request)


async def outcome_of(behaviour: Behaviour, *, timeout: float = AMPLE) -> Outcome:
    """Send one request to a receiver that behaves so."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/hook", behaviour)
        return await post(sender, f"{receiver.url}/hook?token=secret", timeout=timeout)


def answered(outcome: Outcome) -> Answered:
    """Insist on an answer."""
    assert isinstance(outcome, Answered), outcome
    return outcome


def blocked(outcome: Outcome) -> Blocked:
    """Insist on a refusal."""
    assert isinstance(outcome, Blocked), outcome
    return outcome


def unreachable(outcome: Outcome) -> Unreachable:
    """Insist on no answer."""
    assert isinstance(outcome, Unreachable), outcome
    assert "secret" not in outcome.detail
    assert outcome.detail.endswith((".", "?"))
    return outcome


# --- answers ---


@pytest.mark.parametrize("status", [200, 202, 204, 299, 304, 400, 404, 410, 429, 500, 502, 503, 504, 599, 999])
async def test_every_status_is_an_answer(status: int) -> None:
    """Success or not, a status that came is what the outcome says."""
    assert answered(await outcome_of(answer(status))).status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """A redirect to a server that would answer is an answer with that status, and nothing more is sent."""
    async with Receiver() as elsewhere, Receiver() as receiver, sending() as sender:
        receiver.on("/hook", redirect(f"{elsewhere.url}/", status=status))

        outcome = answered(await post(sender, f"{receiver.url}/hook"))

        assert outcome.status == status
        assert dict(outcome.headers)["Location"] == f"{elsewhere.url}/"
        assert elsewhere.received == []
        assert len(receiver.received) == 1


async def test_an_answer_is_kept_as_it_came() -> None:
    """Headers keep their order, case, repetition and bytes; body and address are there."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", raw("HTTP/1.1 200 OK\r\nX-a: 1\r\nx-A: ü\r\nContent-Length: 2\r\n\r\nhi".encode("latin-1")))

        outcome = answered(await post(sender, f"{receiver.url}/"))

        assert outcome.headers == (("X-a", "1"), ("x-A", "ü"), ("Content-Length", "2"))
        assert outcome.body == b"hi"
        assert outcome.body_cut is False
        assert outcome.address == f"127.0.0.1:{receiver.port}"


async def test_seconds_are_measured_from_start_to_end() -> None:
    """The outcome's duration is the difference of two looks at the clock that was given."""
    ticks = iter(range(1000))
    async with Receiver() as receiver, sending(monotonic=lambda: float(next(ticks))) as sender:
        outcome = answered(await post(sender, f"{receiver.url}/"))

        assert outcome.seconds == next(ticks) - 1


@pytest.mark.parametrize(
    "behaviour, body",
    [
        pytest.param(raw(head(100, {}) + head(103, {"Link": "x"}) + head(200, {"Content-Length": "2"}) + b"ok"), b"ok", id="1xx before"),
        pytest.param(raw(head(200, {"Transfer-Encoding": "chunked"}) + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), b"ok", id="chunked"),
        pytest.param(raw(head(200, {"Connection": "close"}) + b"ok"), b"ok", id="until the end"),
        pytest.param(raw(b"HTTP/1.0 200 OK\r\n\r\nok"), b"ok", id="HTTP/1.0"),
        pytest.param(raw(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), b"ok", id="no reason phrase"),
        pytest.param(raw(head(101, {"Upgrade": "x", "Connection": "upgrade"})), b"", id="unasked upgrade"),
    ],
)  # fmt: skip
async def test_all_forms_of_answers_are_read(behaviour: Behaviour, body: bytes) -> None:
    """What HTTP allows as an answer is read as one."""
    assert answered(await outcome_of(behaviour)).body == body


@pytest.mark.parametrize(
    "behaviour, cut",
    [
        pytest.param(answer(200, body=b"x" * LIMIT), False, id="just fits"),
        pytest.param(answer(200, body=b"x" * (LIMIT + 1)), True, id="one too many"),
        pytest.param(answer(200, body=b"x" * 10_000_000), True, id="far too many"),
        pytest.param(endless_body, True, id="endless"),
        pytest.param(hang_after(head(200, {"Content-Length": "999999"}) + b"x" * (LIMIT + 1)), True, id="hangs after"),
    ],
)
async def test_bodies_are_read_to_the_limit(behaviour: Behaviour, cut: bool) -> None:  # noqa: FBT001 - pytest passes names
    """No more than the limit is kept, the rest is not waited for, and the status counts all the same."""
    outcome = answered(await outcome_of(behaviour))

    assert outcome.status == 200
    assert outcome.body == b"x" * LIMIT
    assert outcome.body_cut is cut


async def test_a_bomb_is_not_decompressed() -> None:
    """A compressed answer is kept as it came."""
    outcome = answered(await outcome_of(gzip_bomb()))

    assert outcome.body.startswith(b"\x1f\x8b")
    assert len(outcome.body) == LIMIT
    assert outcome.body_cut


async def test_a_cut_answer_ends_its_connection() -> None:
    """The rest of a long body is not read from a kept connection: the next request gets a new one."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", answer(200, body=b"x" * (LIMIT + 1)), answer(204))

        await post(sender, f"{receiver.url}/")
        await post(sender, f"{receiver.url}/")

        assert [request.connection for request in receiver.received] == [1, 2]


# --- no answers ---

NO_ANSWER = [
    pytest.param(hang, SOON, UnreachableReason.TIMEOUT, "waiting for an answer", id="hangs"),
    pytest.param(drip_head, SOON, UnreachableReason.TIMEOUT, "rest of the answer's head", id="drips its head"),
    pytest.param(drip_body, SOON, UnreachableReason.TIMEOUT, "status 200, had come", id="drips its body"),
    pytest.param(hang_after(head(200, {"Content-Length": "9"})), SOON, UnreachableReason.TIMEOUT, "status 200", id="hangs before the body"),
    pytest.param(hang_after(head(100, {})), SOON, UnreachableReason.TIMEOUT, "waiting", id="100 and no more"),
    pytest.param(close_silently, AMPLE, UnreachableReason.RESET, "without an answer", id="closes"),
    pytest.param(reset, AMPLE, UnreachableReason.RESET, "lost", id="resets"),
    pytest.param(raw(b"HTTP/1.1 200"), AMPLE, UnreachableReason.RESET, "middle of the answer's head", id="closes in the head"),
    pytest.param(raw(head(200, {"Content-Length": "9"}) + b"x"), AMPLE, UnreachableReason.RESET, "body broke off", id="closes in the body"),
    pytest.param(raw(head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nx"), AMPLE, UnreachableReason.RESET, "body broke off", id="closes in a chunk"),
    pytest.param(raw(b"SSH-2.0-OpenSSH_9.6\r\n"), AMPLE, UnreachableReason.PROTOCOL, "not proper HTTP", id="SSH"),
    pytest.param(raw(b"\x00" * 100), AMPLE, UnreachableReason.PROTOCOL, "not proper HTTP", id="binary"),
    pytest.param(raw(b"HTTP/2 200 OK\r\n\r\n"), AMPLE, UnreachableReason.PROTOCOL, "not proper HTTP", id="HTTP/2"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), AMPLE, UnreachableReason.PROTOCOL, "too long", id="long header"),
    pytest.param(raw(b"HTTP/1.1 200 " + b"x" * 100_000), AMPLE, UnreachableReason.PROTOCOL, "too long", id="long reason"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000), AMPLE, UnreachableReason.PROTOCOL, "Too many headers", id="many headers"),
    pytest.param(raw(head(100, {}) * 1000, close=False), AMPLE, UnreachableReason.PROTOCOL, "interim", id="nothing but 1xx"),
    pytest.param(raw(head(200, {"Transfer-Encoding": "chunked"}) + b"zz\r\n", close=False), AMPLE, UnreachableReason.PROTOCOL, "chunk", id="bad chunk"),
    pytest.param(raw(head(200, {"Content-Length": "-1"}), close=False), AMPLE, UnreachableReason.PROTOCOL, "not proper HTTP", id="bad length"),
]  # fmt: skip


@both_loops
@pytest.mark.parametrize("behaviour, timeout, reason, words", NO_ANSWER)
def test_no_answer_says_why(
    run: Runner, behaviour: Behaviour, timeout: float, reason: UnreachableReason, words: str
) -> None:
    """Whatever keeps an answer from coming is told apart, in one line without the URL's query, and within the deadline."""

    async def scenario() -> None:
        outcome = unreachable(await outcome_of(behaviour, timeout=timeout))

        assert outcome.reason is reason
        assert words in outcome.detail
        assert outcome.address is not None
        assert outcome.seconds < timeout + 1.0

    run(scenario())


@both_loops
def test_garbage_in_the_middle_of_a_body_ends_the_wait(run: Runner) -> None:
    """A body that turns out not to be HTTP, after its reading has begun, is not waited for until the deadline."""

    async def late_garbage(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n")
        await exchange.pause(0.05)
        await exchange.send(b"zz\r\n")
        await exchange.left.wait()

    async def scenario() -> None:
        outcome = unreachable(await outcome_of(late_garbage))

        assert outcome.reason is UnreachableReason.PROTOCOL
        assert outcome.seconds < 1.0

    run(scenario())


@both_loops
def test_refused_connections_are_told(run: Runner) -> None:
    """A port where nothing listens is refused, with its address."""

    async def scenario() -> None:
        async with Receiver() as receiver, sending() as sender:
            await receiver.stop()

            outcome = unreachable(await post(sender, f"{receiver.url}/"))

            assert outcome.reason is UnreachableReason.REFUSED
            assert outcome.address == f"127.0.0.1:{receiver.port}"

    run(scenario())


@both_loops
def test_a_receiver_that_reads_nothing_is_given_up(run: Runner) -> None:
    """A large body that nobody takes ends at the deadline; what was not written by then never is."""

    async def scenario() -> None:
        released = asyncio.Event()
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            size = 0
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1 << 20):
                    size += len(data)
            writer.close()
            taken.set_result(size)

        body = bytes(1 << 25)
        async with await asyncio.start_server(read_late, "127.0.0.1", 0) as server, sending() as sender:
            port = server.sockets[0].getsockname()[1]

            outcome = unreachable(await post(sender, f"http://127.0.0.1:{port}/", timeout=SOON, body=body))

            assert outcome.reason is UnreachableReason.TIMEOUT
            released.set()
            assert await asyncio.wait_for(taken, AMPLE) < len(body)

    run(scenario())


@both_loops
def test_a_connection_with_an_unread_request_is_not_kept(run: Runner) -> None:
    """A receiver may answer before it has read the request; the next one then does not queue behind what it left."""

    async def scenario() -> None:
        connections = 0
        done = asyncio.Event()
        closed: asyncio.Queue[None] = asyncio.Queue()

        async def refuse_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head(413, {"Content-Length": "0"}))
            await done.wait()
            with contextlib.suppress(ConnectionError):
                while await reader.read(1 << 20):
                    pass
            writer.close()
            closed.put_nowait(None)

        async with await asyncio.start_server(refuse_early, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with sending() as sender:
                first = answered(await post(sender, url, body=bytes(1 << 25)))
                second = answered(await post(sender, url))

                assert (first.status, second.status, connections) == (413, 413, 2)
            done.set()
            for _ in range(connections):
                await asyncio.wait_for(closed.get(), AMPLE)

    run(scenario())


@both_loops
@pytest.mark.parametrize("scheme", ["http", "https"], ids=["waiting", "connecting"])
def test_cancelling_a_send_closes_its_connection(run: Runner, scheme: str) -> None:
    """A cancelled request leaves nothing behind, whether it waited for an answer or was still in the TLS handshake."""

    async def scenario() -> None:
        begun, gone = asyncio.Event(), asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            begun.set()
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()
            gone.set()

        async with await asyncio.start_server(listen, "127.0.0.1", 0) as server, sending() as sender:
            port = server.sockets[0].getsockname()[1]
            task = asyncio.create_task(post(sender, f"{scheme}://127.0.0.1:{port}/"))
            await asyncio.wait_for(begun.wait(), AMPLE)

            task.cancel()

            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), AMPLE)

    run(scenario())


# --- names ---


@both_loops
@pytest.mark.parametrize(
    "name", ["unknown.example", "empty.example", "nonsense.example"], ids=["unknown", "no address", "no sense"]
)
def test_names_that_lead_nowhere_are_told(run: Runner, name: str) -> None:
    """A name that does not exist, or has no address, is a DNS failure that says the name."""

    async def scenario() -> None:
        names = Names({"empty.example": [], "nonsense.example": ["not an address"]})
        async with sending(resolver=names) as sender:
            outcome = unreachable(await post(sender, f"http://{name}/hook?token=secret"))

            assert outcome.reason is UnreachableReason.DNS
            assert name in outcome.detail
            assert outcome.address is None

    run(scenario())


async def test_a_silent_name_server_is_told_from_a_silent_host() -> None:
    """What takes too long is named: the look-up, or the connection."""

    class Silent(Names):
        async def resolve(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    async with sending(resolver=Silent(), connect_timeout=SOON) as sender:
        outcome = unreachable(await post(sender, "http://silent.example/"))

        assert outcome.reason is UnreachableReason.DNS
        assert outcome.detail == "No connection within 0.2 s: it was still looking up the name silent.example."


@both_loops
def test_connecting_has_its_own_deadline(run: Runner) -> None:
    """A connection that is not made (here: a TLS handshake that is never answered) ends at the connect time-out."""

    async def scenario() -> None:
        async with Receiver() as receiver, sending(connect_timeout=SOON) as sender:
            outcome = unreachable(await post(sender, f"https://127.0.0.1:{receiver.port}/"))

            assert outcome.reason is UnreachableReason.CONNECT_TIMEOUT
            assert f"connecting to 127.0.0.1:{receiver.port}" in outcome.detail

    run(scenario())


async def test_international_names_go_out_in_ascii() -> None:
    """A name with other letters is looked up, and sent as `Host`, in its `xn--` form."""
    names = Names({"xn--bcher-kva.example": ["127.0.0.1"]})
    async with Receiver() as receiver, sending(resolver=names) as sender:
        await post(sender, f"http://bücher.example:{receiver.port}/ä?ö=1")

        (request,) = receiver.received
        assert request.path == "/%C3%A4?%C3%B6=1"
        assert request.headers["host"] == f"xn--bcher-kva.example:{receiver.port}"


async def test_ipv6_addresses_work() -> None:
    """An IPv6 address in a URL is connected to and recorded in brackets."""
    async with Receiver(host="[::1]", listen="::1") as receiver, sending() as sender:
        outcome = answered(await post(sender, f"{receiver.url}/"))

        assert outcome.address == f"[::1]:{receiver.port}"
        assert receiver.received[0].headers["host"] == f"[::1]:{receiver.port}"


async def test_the_system_is_asked_once_for_many() -> None:
    """Look-ups of one name at one time share one question, and each keeps its own port."""
    resolver = SystemResolver()

    first, second = await asyncio.gather(resolver.resolve("localhost", 1), resolver.resolve("localhost", 2))

    assert {entry["port"] for entry in first} == {1}
    assert {entry["port"] for entry in second} == {2}
    assert {ip_address(entry["host"]).is_loopback for entry in first} == {True}
    await resolver.close()


async def test_the_system_resolver_is_the_default() -> None:
    """Without a resolver of one's own, names are looked up as the machine does."""
    async with Receiver(host="localhost") as receiver, sending() as sender:
        assert answered(await post(sender, f"{receiver.url}/")).status == 204


# --- where requests may go ---

FORBIDDEN = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.1.2.3", "168.63.129.16", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.fixture
async def closed_sender() -> AsyncIterator[tuple[Sender, Names]]:
    """A sender that may reach the public internet alone, and the names it knows."""
    names = Names()
    async with sending(ip_network("8.8.8.8/32"), resolver=names) as sender:
        yield sender, names


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_forbidden_addresses_are_blocked_in_urls(closed_sender: tuple[Sender, Names], address: str) -> None:
    """An inner address in a URL is blocked; the outcome names it and the setting."""
    sender, names = closed_sender
    host = f"[{address}]" if ":" in address else address

    outcome = blocked(await post(sender, f"http://{host}:8080/"))

    assert address in outcome.detail
    assert SETTING in outcome.detail
    assert names.asked == []


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_forbidden_addresses_are_blocked_behind_names(closed_sender: tuple[Sender, Names], address: str) -> None:
    """An inner address behind a name is blocked; the outcome names both, and the setting."""
    sender, names = closed_sender
    names.lead("trap.example", address)

    outcome = blocked(await post(sender, "http://trap.example:8080/"))

    assert outcome.detail.startswith(f"trap.example leads to a closed address: {address} is in ")
    assert SETTING in outcome.detail
    assert outcome.address == (f"[{address}]:8080" if ":" in address else f"{address}:8080")


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "localhost"]
)  # fmt: skip
async def test_disguised_addresses_are_blocked(host: str) -> None:
    """Spellings that some libraries take for 127.0.0.1 do not reach it."""
    async with Receiver() as receiver, sending(ip_network("10.0.0.0/8")) as sender:
        blocked(await post(sender, f"http://{host}:{receiver.port}/"))

        assert receiver.connections == 0


@both_loops
@pytest.mark.parametrize("address", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"])
def test_sockets_are_guarded_too(run: Runner, address: str) -> None:
    """Even if nobody looked at the URL, the connector makes no socket to a forbidden address."""

    async def scenario() -> None:
        progress_here.set(Progress())
        connector = Connector(AddressPolicy(), resolver=Names(), ssl_context=TRUSTS_NOBODY)
        request = ClientRequest("POST", URL(f"http://{address}:9/"), loop=asyncio.get_running_loop())

        with pytest.raises(ClientConnectorError) as failure:
            await connector.connect(request, [], ClientTimeout())

        assert isinstance(failure.value.os_error, Forbidden)
        await connector.close()

    run(scenario())


async def test_connections_speak_our_protocol() -> None:
    """The connector, which is aiohttp's, still takes the protocol that notes whether an answer began."""
    progress_here.set(Progress())
    async with Receiver() as receiver:
        connector = Connector(AddressPolicy(LOOPBACK), resolver=Names(), ssl_context=TRUSTS_NOBODY)
        request = ClientRequest("POST", URL(receiver.url), loop=asyncio.get_running_loop())

        connection = await connector.connect(request, [], ClientTimeout())

        assert isinstance(connection.protocol, Protocol)
        connection.close()
        await connector.close()


async def test_a_name_that_changes_its_mind_is_blocked_at_connect() -> None:
    """A name that led to a good address when it was looked at, and leads inside when it is used, is blocked then."""
    names = Names({"rebind.example": ["8.8.8.8"]})
    async with Receiver() as receiver, sending(ip_network("10.0.0.0/8"), resolver=names) as sender:
        names.lead("rebind.example", "127.0.0.1")

        outcome = blocked(await post(sender, f"http://rebind.example:{receiver.port}/"))

        assert "127.0.0.1" in outcome.detail
        assert receiver.connections == 0


async def test_every_new_connection_is_judged_anew() -> None:
    """A name that was good for one connection is looked up and judged again for the next."""
    names = Names({"rebind.example": ["127.0.0.1"]})
    async with Receiver() as receiver, sending(ip_network("127.0.0.1/32"), resolver=names) as sender:
        receiver.on("/", answer(headers={"Connection": "close"}))
        answered(await post(sender, f"http://rebind.example:{receiver.port}/"))
        names.lead("rebind.example", "127.0.0.2")

        blocked(await post(sender, f"http://rebind.example:{receiver.port}/"))

        assert names.asked == ["rebind.example", "rebind.example"]


async def test_the_open_one_of_several_addresses_is_used() -> None:
    """A name with closed and open addresses is tried at the open one."""
    names = Names({"mixed.example": ["10.0.0.1", "fd00::1", "127.0.0.1", "169.254.169.254"]})
    async with Receiver() as receiver, sending(resolver=names) as sender:
        outcome = answered(await post(sender, f"http://mixed.example:{receiver.port}/"))

        assert outcome.address == f"127.0.0.1:{receiver.port}"


async def test_allow_subnets_opens_exactly_what_it_says() -> None:
    """One address more, or another family, stays closed."""
    async with Receiver(listen="0.0.0.0") as receiver, sending(ip_network("127.0.0.4/31")) as sender:
        outcomes = [await post(sender, f"http://127.0.0.{last}:{receiver.port}/") for last in (3, 4, 5, 6)]

        assert [type(outcome) for outcome in outcomes] == [Blocked, Answered, Answered, Blocked]
        blocked(await post(sender, f"http://[::1]:{receiver.port}/"))


@pytest.mark.parametrize(
    "url, words",
    [
        pytest.param("http://receiver.example/", "`[egress] https_only`", id="http"),
        pytest.param("https://user:word@receiver.example/", "user name or password", id="userinfo"),
        pytest.param("ftp://receiver.example/", "ftp://", id="scheme"),
        pytest.param("https://receiver.example:0/", "port", id="port"),
        pytest.param("nonsense", "cannot be read", id="nonsense"),
        pytest.param("", "cannot be read", id="empty"),
    ],
)
async def test_urls_are_judged_again_when_they_are_used(url: str, words: str) -> None:
    """A stored URL that breaks today's rules is blocked, and no exception."""
    names = Names({"receiver.example": ["127.0.0.1"]})
    async with sending(https_only=True, resolver=names) as sender:
        outcome = blocked(await post(sender, url))

        assert words in outcome.detail
        assert "word@" not in outcome.detail
        assert names.asked == []


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy named in the environment, which would defeat the address policy, is not used."""
    async with Receiver() as proxy, Receiver() as receiver:
        monkeypatch.setenv(variable, proxy.url)
        async with sending() as sender:
            answered(await post(sender, f"{receiver.url}/"))

        assert proxy.connections == 0


async def test_credentials_of_the_home_directory_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `.netrc` adds no `Authorization`."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with Receiver() as receiver, sending() as sender:
        await post(sender, f"{receiver.url}/")

        assert "authorization" not in receiver.received[0].headers


async def test_cookies_are_not_kept() -> None:
    """What a receiver sets comes back with no later request."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", answer(headers={"Set-Cookie": "a=b; Path=/"}))

        await post(sender, f"{receiver.url}/")
        await post(sender, f"{receiver.url}/")

        assert "cookie" not in receiver.received[1].headers


# --- what is sent ---


async def test_a_request_is_exactly_this() -> None:
    """Method, target, headers and body are what was asked for and the few that HTTP needs, and nothing else."""
    async with Receiver() as receiver, sending() as sender:
        request = Request(
            f"{receiver.url}/a%2Fb?c=%2c&d[]=1",
            {"webhook-id": "1", "X-Käse": "never sent"} | {"X-Own": "ü"},
            '{"ü":1.10}'.encode(),
            AMPLE,
        )

        blocked(await sender.send(request))
        answered(await sender.send(Request(request.url, {"webhook-id": "1", "X-Own": "ü"}, request.body, AMPLE)))

        (received,) = receiver.received
        assert (received.method, received.path, received.body) == ("POST", "/a%2Fb?c=%2c&d[]=1", request.body)
        assert received.raw_headers == (
            ("Host", f"127.0.0.1:{receiver.port}"),
            ("User-Agent", "tests/1"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("webhook-id", "1"),
            ("X-Own", "ü".encode().decode("latin-1")),
            ("Content-Type", "application/json"),
            ("Content-Length", "11"),
        )


@pytest.mark.parametrize("path", ["", "?a=b", "/", "/hook?"])
async def test_paths_are_kept(path: str) -> None:
    """The target is the URL's, with a slash where there is none."""
    async with Receiver() as receiver, sending() as sender:
        await post(sender, f"{receiver.url}{path}")

        assert receiver.received[0].path == (path if path.startswith("/") else f"/{path}").removesuffix("?")


async def test_the_content_type_can_be_chosen() -> None:
    """A content type that the request brings replaces the default, however its name is written."""
    async with Receiver() as receiver, sending() as sender:
        await post(sender, f"{receiver.url}/", content_TYPE="application/cloudevents+json")

        types = [value for name, value in receiver.received[0].raw_headers if name.lower() == "content-type"]
        assert types == ["application/cloudevents+json"]


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS))
async def test_reserved_headers_are_ours(name: str) -> None:
    """Headers that belong to the connection, and the user agent, cannot be overridden."""
    async with Receiver() as receiver, sending() as sender:
        answered(await sender.send(Request(f"{receiver.url}/", {name.title(): "evil"}, b"{}", AMPLE)))

        assert "evil" not in {value for _, value in receiver.received[0].raw_headers}


@pytest.mark.parametrize(
    "name, value",
    [
        pytest.param("X-A", "a\r\nX-B: b", id="line break"),
        pytest.param("X-A", "a\nb", id="newline"),
        pytest.param("X-A", "a\x00b", id="NUL"),
        pytest.param("X-A", "\ud800", id="half a character"),
        pytest.param("X-A: b\r\nX-B", "c", id="line break in name"),
        pytest.param("X A", "b", id="space in name"),
        pytest.param("", "b", id="no name"),
    ],
)
async def test_headers_cannot_break_out(name: str, value: str) -> None:
    """A header that would smuggle in another is never sent, and the outcome says which one it is."""
    async with Receiver() as receiver, sending() as sender:
        outcome = blocked(await sender.send(Request(f"{receiver.url}/", {name: value}, b"{}", AMPLE)))

        assert "cannot be sent" in outcome.detail
        assert receiver.connections == 0


async def test_large_bodies_arrive() -> None:
    """A body far larger than any buffer arrives whole."""
    async with Receiver() as receiver, sending() as sender:
        await post(sender, f"{receiver.url}/", body=b"x" * 5_000_000)

        assert receiver.received[0].body == b"x" * 5_000_000


# --- kept connections ---


async def test_connections_are_kept() -> None:
    """Requests to one receiver, one after the other, share a connection; the address is known each time."""
    async with Receiver() as receiver, sending() as sender:
        outcomes = [answered(await post(sender, f"{receiver.url}/{number}")) for number in range(3)]

        assert receiver.connections == 1
        assert {outcome.address for outcome in outcomes} == {f"127.0.0.1:{receiver.port}"}


async def test_many_requests_at_a_time_use_many_connections() -> None:
    """A request never waits for another one's connection."""
    async with Receiver() as receiver, sending() as sender:
        together = asyncio.Event()
        receiver.on("/", answer(after=together))
        tasks = [asyncio.create_task(post(sender, f"{receiver.url}/")) for _ in range(150)]

        await receiver.wait_for(150)
        together.set()

        assert {answered(outcome).status for outcome in await asyncio.gather(*tasks)} == {204}
        assert receiver.most_in_flight["/"] == 150


@pytest.mark.parametrize("header", ["close", "Close, x"])
async def test_connections_end_when_the_receiver_says_so(header: str) -> None:
    """After `Connection: close` the next request gets a new connection."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", answer(headers={"Connection": header}))

        await post(sender, f"{receiver.url}/")
        await post(sender, f"{receiver.url}/")

        assert [request.connection for request in receiver.received] == [1, 2]


@both_loops
@pytest.mark.parametrize("behaviour", [close_silently, reset], ids=["closed", "reset"])
def test_a_kept_connection_that_breaks_unanswered_is_replaced_once(run: Runner, behaviour: Behaviour) -> None:
    """A request over a kept connection that breaks before any byte of an answer goes out again on a new one, silently."""

    async def scenario() -> None:
        async with Receiver() as receiver, sending() as sender:
            receiver.on("/", answer(), behaviour, answer(201))
            await post(sender, f"{receiver.url}/")

            outcome = answered(await post(sender, f"{receiver.url}/"))

            assert outcome.status == 201
            assert [request.connection for request in receiver.received] == [1, 1, 2]

    run(scenario())


async def test_a_replaced_connection_is_not_replaced_again() -> None:
    """A receiver that always breaks off gets a request twice at most, however many connections are kept."""
    async with Receiver() as receiver, sending() as sender:
        together = asyncio.Event()
        receiver.on("/", answer(after=together))
        tasks = [asyncio.create_task(post(sender, f"{receiver.url}/")) for _ in range(5)]
        await receiver.wait_for(5)
        together.set()
        await asyncio.gather(*tasks)
        receiver.on("/", close_silently)

        outcome = unreachable(await post(sender, f"{receiver.url}/"))

        assert outcome.reason is UnreachableReason.RESET
        assert len(receiver.received) == 5 + 2


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 200 OK\r\n"], ids=["one byte", "a line"])
async def test_an_answer_that_began_is_not_asked_for_again(start: bytes) -> None:
    """Once a byte of an answer came, the receiver had the request: nothing is sent again."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", answer(), raw(start), answer())
        await post(sender, f"{receiver.url}/")

        unreachable(await post(sender, f"{receiver.url}/"))

        assert len(receiver.received) == 2


async def test_a_new_connection_that_breaks_is_not_replaced() -> None:
    """On a new connection nothing can have crossed: the request is not sent again."""
    async with Receiver() as receiver, sending() as sender:
        receiver.on("/", close_silently, answer())

        unreachable(await post(sender, f"{receiver.url}/"))

        assert len(receiver.received) == 1


async def test_an_answer_nobody_asked_for_is_nobodys_answer() -> None:
    """Bytes that come over an idle connection end it; they are not taken for the next request's answer."""
    async with Receiver() as receiver, sending() as sender:
        sent = asyncio.Event()

        async def twice(exchange: Exchange) -> None:
            await exchange.send(head(200, {"Content-Length": "0"}))
            await exchange.pause(0.02)
            await exchange.send(head(666, {"Content-Length": "0"}))
            sent.set()

        receiver.on("/", twice, answer(204))
        await post(sender, f"{receiver.url}/")
        await asyncio.wait_for(sent.wait(), AMPLE)

        outcome = answered(await post(sender, f"{receiver.url}/"))

        assert outcome.status == 204
        assert receiver.received[1].connection == 2


@pytest.mark.parametrize(
    "age, uses", [pytest.param(IDLE_SECONDS, 1, id="idle"), pytest.param(LINE_SECONDS / 12, 14, id="busy")]
)
async def test_connections_grow_old(age: float, uses: int) -> None:
    """An idle connection is kept for half a minute, a busy one for five, so that a receiver that moved is followed."""
    now = 0.0
    async with Receiver() as receiver, sending(monotonic=lambda: now) as sender:
        for _ in range(uses):
            await post(sender, f"{receiver.url}/")
            now += age
        now += 0.1

        await post(sender, f"{receiver.url}/")

        assert receiver.connections == 2


async def test_unused_connections_are_limited() -> None:
    """Above the limit the connection that was unused for longest is closed, whoever it led to."""
    async with Receiver() as first, Receiver() as second, Receiver() as third, sending(idle_limit=2) as sender:
        for receiver in (first, second, third, second, third, first):
            await post(sender, f"{receiver.url}/")

        assert [receiver.connections for receiver in (first, second, third)] == [2, 1, 1]


async def test_a_receiver_can_go_and_come_back() -> None:
    """After an outage, requests reach the receiver again, whatever connections were kept before."""
    async with Receiver() as receiver, sending() as sender:
        answered(await post(sender, f"{receiver.url}/"))
        await receiver.stop()
        unreachable(await post(sender, f"{receiver.url}/"))
        await receiver.start()

        assert answered(await post(sender, f"{receiver.url}/")).status == 204


# --- TLS ---

AUTHORITY = trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def self_signed(name: str) -> ssl.SSLContext:
    """A server's context with a certificate that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(YESTERDAY)
        .not_valid_after(YESTERDAY + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = trustme.Blob(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


def secure(**settings: Any) -> contextlib.AbstractAsyncContextManager[Sender]:
    """A sender that trusts `AUTHORITY` and finds `receiver.example` on loopback."""
    names = Names({"receiver.example": ["127.0.0.1"]})
    return sending(**{"https_only": True, "resolver": names, "ssl_context": trusting(AUTHORITY), **settings})


@both_loops
def test_tls_works(run: Runner) -> None:
    """A trusted receiver is reached over TLS, and the connection is kept."""

    async def scenario() -> None:
        tls = certificate(AUTHORITY, "receiver.example")
        async with Receiver(tls=tls, host="receiver.example") as receiver, secure() as sender:
            for _ in range(2):
                assert answered(await post(sender, f"{receiver.url}/")).address == f"127.0.0.1:{receiver.port}"

            assert receiver.connections == 1

    run(scenario())


@both_loops
def test_every_phase_is_timed(run: Runner) -> None:
    """Looking up the name, connecting, TLS and waiting take some time each on a new connection; only waiting on an open one."""

    async def scenario() -> None:
        tls = certificate(AUTHORITY, "receiver.example")
        async with Receiver(tls=tls, host="receiver.example") as receiver, secure() as sender:
            first = answered(await post(sender, f"{receiver.url}/"))
            second = answered(await post(sender, f"{receiver.url}/"))

        assert first.timings is not None
        assert second.timings is not None
        phases = (first.timings.lookup, first.timings.connect, first.timings.tls, first.timings.first_byte)
        assert all(phase is not None and phase > 0 for phase in phases)
        assert sum(phase or 0.0 for phase in phases) <= first.seconds
        assert (second.timings.reused, second.timings.lookup, second.timings.connect, second.timings.tls) == (
            True,
            0,
            0,
            0,
        )

    run(scenario())


@both_loops
@pytest.mark.parametrize(
    "tls, words",
    [
        pytest.param(lambda: self_signed("receiver.example"), "self-signed", id="self-signed"),
        pytest.param(lambda: certificate(trustme.CA(), "receiver.example"), "does not know", id="unknown authority"),
        pytest.param(lambda: certificate(AUTHORITY, "receiver.example", expires=YESTERDAY), "expired", id="expired"),
        pytest.param(lambda: certificate(AUTHORITY, "other.example"), "another name", id="wrong name"),
    ],
)
def test_untrusted_receivers_get_nothing(run: Runner, tls: Callable[[], ssl.SSLContext], words: str) -> None:
    """A receiver whose certificate is not in order gets no request, and the outcome says what is wrong with it."""

    async def scenario() -> None:
        async with Receiver(tls=tls(), host="receiver.example") as receiver, secure() as sender:
            outcome = unreachable(await post(sender, f"{receiver.url}/"))

            assert outcome.reason is UnreachableReason.TLS
            assert words in outcome.detail
            assert outcome.address == f"127.0.0.1:{receiver.port}"
            assert receiver.received == []

    run(scenario())


@both_loops
def test_a_certificate_must_fit_an_address_too(run: Runner) -> None:
    """A URL with an address needs a certificate for that address."""

    async def scenario() -> None:
        async with Receiver(tls=certificate(AUTHORITY, "receiver.example")) as receiver, secure() as sender:
            outcome = unreachable(await post(sender, f"{receiver.url}/"))

            assert outcome.reason is UnreachableReason.TLS
            assert "not for this address" in outcome.detail

    run(scenario())


async def test_the_default_trusts_no_private_authority() -> None:
    """Without a context of one's own, the machine's authorities count, and verification is on."""
    async with (
        Receiver(tls=certificate(AUTHORITY, "receiver.example"), host="receiver.example") as receiver,
        secure(ssl_context=None) as sender,
    ):
        assert unreachable(await post(sender, f"{receiver.url}/")).reason is UnreachableReason.TLS


@both_loops
@pytest.mark.parametrize(
    "greeting, reason",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", UnreachableReason.TLS, id="plain HTTP"),
        pytest.param(b"", UnreachableReason.RESET, id="closes at once"),
    ],
)
def test_servers_without_tls_are_told(run: Runner, greeting: bytes, reason: UnreachableReason) -> None:
    """A server that does not speak TLS on an https port is a failure that says so."""

    async def scenario() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(greeting)
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server, secure() as sender:
            port = server.sockets[0].getsockname()[1]

            outcome = unreachable(await post(sender, f"https://receiver.example:{port}/"))

            assert outcome.reason is reason
            assert "TLS" in outcome.detail or reason is UnreachableReason.RESET

    run(scenario())


@pytest.mark.parametrize("run", [uvloop.run], ids=["uvloop"])
@pytest.mark.parametrize("behaviour, timeout, reason, words", NO_ANSWER)
def test_no_answer_over_tls_says_why(
    run: Runner, behaviour: Behaviour, timeout: float, reason: UnreachableReason, words: str
) -> None:
    """TLS changes nothing about what is told when no answer comes."""

    async def scenario() -> None:
        tls = certificate(AUTHORITY, "receiver.example")
        async with Receiver(tls=tls, host="receiver.example") as receiver, secure() as sender:
            receiver.on("/hook", behaviour)

            outcome = unreachable(await post(sender, f"{receiver.url}/hook?token=secret", timeout=timeout))

            assert outcome.reason is reason
            assert words in outcome.detail

    run(scenario())
