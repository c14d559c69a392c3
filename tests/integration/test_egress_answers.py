"""The sender and receivers that answer: the answer is kept, bounded; what was sent; which connections are kept."""

import asyncio
import gc

import pytest

from dispatcher.egress import RESERVED_HEADERS, Request
from dispatcher.exchange import Exchange as Conversation
from dispatcher.lines import IDLE_SECONDS, LINE_SECONDS
from dispatcher.model import UnreachableReason
from support.egress import AMPLE, LIMIT, Runner, answered, blocked, both_loops, outcome_of, post, sending, unreachable
from support.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    answer,
    close_silently,
    endless_body,
    gzip_bomb,
    hang_after,
    head,
    raw,
    redirect,
    reset,
)

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


async def test_a_request_leaves_no_circle_behind() -> None:
    """What one needs is free when it has ended: the collector of cycles was a twentieth of what a delivery cost."""
    async with Receiver() as receiver, sending() as sender:
        await post(sender, f"{receiver.url}/hook")
        gc.collect()
        gc.disable()
        try:
            before = _exchanges()
            for _ in range(3):
                await post(sender, f"{receiver.url}/hook")
            assert _exchanges() == before
        finally:
            gc.enable()


def _exchanges() -> int:
    return sum(isinstance(item, Conversation) for item in gc.get_objects())
