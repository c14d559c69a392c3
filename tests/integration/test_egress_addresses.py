"""The sender and where it may go: names, addresses, and an environment that would lead it elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientRequest, ClientTimeout
from aiohttp.client_exceptions import ClientConnectorError
from yarl import URL

from dispatcher.addresses import AddressPolicy
from dispatcher.dial import Connector, Forbidden, Progress, Protocol, SystemResolver, progress_here
from dispatcher.egress import Sender
from dispatcher.model import Answered, Blocked, UnreachableReason
from support.egress import (
    LOOPBACK,
    SOON,
    TRUSTS_NOBODY,
    Runner,
    answered,
    blocked,
    both_loops,
    post,
    sending,
    unreachable,
)
from support.names import Names
from support.receiver import Receiver, answer

SETTING = "`[egress] allow_subnets`"


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
