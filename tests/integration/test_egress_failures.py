"""The sender and receivers that fail: no answer, or TLS that is not in order, comes back as an outcome, in time."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dispatcher.egress import Sender
from dispatcher.model import UnreachableReason
from support.egress import AMPLE, SOON, Runner, answered, both_loops, outcome_of, post, sending, unreachable
from support.names import Names
from support.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    certificate,
    close_silently,
    drip_body,
    drip_head,
    hang,
    hang_after,
    head,
    raw,
    reset,
    trusting,
)

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
