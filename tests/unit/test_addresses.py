"""The address policy and the rules for URLs: everything inside is refused, in every spelling, with a way to mend it."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from dispatcher.addresses import DENIED, Address, AddressPolicy, Network, check_url
from dispatcher.errors import InvalidInput

CLOSED = AddressPolicy()
LOOPBACK_OPEN = AddressPolicy([ip_network("127.0.0.0/8")])
ALL_OPEN = AddressPolicy([ip_network("0.0.0.0/0"), ip_network("::/0")])


def checked(url: str, *, https_only: bool = True, policy: AddressPolicy = CLOSED) -> str:
    """Check a URL as a production service does."""
    return check_url(url, https_only=https_only, policy=policy)


def members(network: Network) -> st.SearchStrategy[Address]:
    """Draw addresses of one network."""
    first, last = int(network[0]), int(network[-1])
    return st.integers(first, last).map(type(network.network_address))


denied_addresses = st.sampled_from([network for network, _ in DENIED]).flatmap(members)
v4_addresses = st.ip_addresses(v=4).map(lambda address: IPv4Address(int(address)))

INSIDE = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::808:808",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "168.63.129.15",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("text", INSIDE)
def test_inner_addresses_are_refused(text: str) -> None:
    """Every kind of address that is not on the public internet is refused, naming the address and the setting."""
    refusal = CLOSED.refusal(ip_address(text))

    assert refusal is not None
    assert refusal.startswith(f"{text} is in ")
    assert "`[egress] allow_subnets`" in refusal


@pytest.mark.parametrize("text", OUTSIDE)
def test_public_addresses_are_let_through(text: str) -> None:
    """Public addresses are let through, also just beside what is refused."""
    assert CLOSED.refusal(ip_address(text)) is None


@given(address=denied_addresses)
def test_whole_networks_are_refused(address: Address) -> None:
    """No address of a denied network is let through."""
    assert CLOSED.refusal(address) is not None


@given(address=v4_addresses)
def test_mapped_addresses_are_judged_by_what_is_inside(address: IPv4Address) -> None:
    """`::ffff:a.b.c.d` is refused exactly if `a.b.c.d` is, whatever the operator opened."""
    mapped = IPv6Address(f"::ffff:{address}")

    for policy in (CLOSED, LOOPBACK_OPEN, AddressPolicy([ip_network("::ffff:10.0.0.0/104")])):
        assert (policy.refusal(mapped) is None) == (policy.refusal(address) is None)


@given(address=v4_addresses, prefix=st.sampled_from(["::", "64:ff9b::", "2002:"]))
def test_embedded_addresses_are_refused_even_if_public(address: IPv4Address, prefix: str) -> None:
    """IPv4-compatible, NAT64 and 6to4 forms are refused whatever address they carry."""
    text = f"{address:x}".zfill(8)
    tail = f"{text[:4]}:{text[4:]}"
    embedded = IPv6Address(f"{prefix}{tail}::" if prefix == "2002:" else f"{prefix}{tail}")

    assert CLOSED.refusal(embedded) is not None
    assert LOOPBACK_OPEN.refusal(embedded) is not None


@given(
    opened=st.sampled_from([network for network, _ in DENIED]).flatmap(
        lambda network: st.tuples(members(network), st.integers(network.prefixlen, network.max_prefixlen))
    ),
    address=denied_addresses,
)
def test_allow_subnets_opens_exactly_what_it_says(opened: tuple[Address, int], address: Address) -> None:
    """An address that was refused is let through if, and only if, it lies in an opened network."""
    network = ip_network(
        (int(opened[0]), opened[1]) if opened[0].version == 4 else (opened[0], opened[1]), strict=False
    )
    policy = AddressPolicy([network])

    assert (policy.refusal(address) is None) == (address in network)


def test_opening_all_of_ipv6_opens_no_ipv4() -> None:
    """`::/0` says nothing about IPv4, not even about IPv4 in IPv6's clothes."""
    policy = AddressPolicy([ip_network("::/0")])

    assert policy.refusal(ip_address("::1")) is None
    assert policy.refusal(ip_address("::ffff:127.0.0.1")) is not None


@pytest.mark.parametrize(
    "url, used",
    [
        pytest.param("https://example.com/hook", "https://example.com/hook", id="plain"),
        pytest.param("https://example.com", "https://example.com", id="no path"),
        pytest.param("HTTPS://Example.COM:8443/Hook", "https://example.com:8443/Hook", id="case"),
        pytest.param("https://a.example/x%2Fy?q=%2c&z[]=1@2", "https://a.example/x%2Fy?q=%2c&z[]=1@2", id="escapes"),
        pytest.param("https://bücher.example/ä?ö", "https://xn--bcher-kva.example/%C3%A4?%C3%B6", id="international"),
        pytest.param("https://my_service.example/", "https://my_service.example/", id="underscore"),
        pytest.param("https://intranet/hook", "https://intranet/hook", id="single label"),
        pytest.param("https://8.8.8.8/", "https://8.8.8.8/", id="IPv4"),
        pytest.param("https://[2606:4700:0::1111]:443/", "https://[2606:4700::1111]:443/", id="IPv6"),
        pytest.param("https://example.com?x={y}", "https://example.com?x=%7By%7D", id="characters no URL has"),
    ],
)
def test_urls_are_kept_as_far_as_possible(url: str, used: str) -> None:
    """A good URL keeps its path and query byte for byte; only scheme, host and foreign characters are rewritten."""
    assert checked(url) == used
    assert checked(used) == used


@pytest.mark.parametrize(
    "url, reason",
    [
        pytest.param("", "cannot be read", id="empty"),
        pytest.param("example.com/hook", "cannot be read", id="no scheme"),
        pytest.param("https:example.com", "cannot be read", id="no slashes"),
        pytest.param("https:///hook", "has no host", id="no host"),
        pytest.param("https://:443/", "has no host", id="port alone"),
        pytest.param("http://example.com/", "Use https://", id="http"),
        pytest.param("ftp://example.com/", "starts with ftp://", id="ftp"),
        pytest.param("file:///etc/passwd", "starts with file://", id="file"),
        pytest.param("https://user:word@example.com/", "user name or password", id="userinfo"),
        pytest.param("https://user@example.com/", "user name or password", id="user"),
        pytest.param("https://@example.com/", "user name or password", id="empty userinfo"),
        pytest.param("https://example.com/#part", "fragment", id="fragment"),
        pytest.param("https://example.com/#", "fragment", id="empty fragment"),
        pytest.param("https://example.com/a b", "white space", id="space"),
        pytest.param(" https://example.com/", "white space", id="leading space"),
        pytest.param("https://example.com/\r\nX: y", "control character (U+000D)", id="line break"),
        pytest.param("https://example.com/\x00", "control character", id="NUL"),
        pytest.param("https://exam\u200bple.com/", "control character", id="invisible"),
        pytest.param("https://example.com\\@127.0.0.1/", "backslash", id="backslash"),
        pytest.param("https://example.com:0/", "port `0`", id="port 0"),
        pytest.param("https://example.com:65536/", "port `65536`", id="port too large"),
        pytest.param("https://example.com:25/", "port `25`, which belongs to another protocol", id="port of mail"),
        pytest.param("https://example.com:/", "port ``", id="port empty"),
        pytest.param("https://example.com:\uff1443/", "port", id="port full-width"),
        pytest.param("https://example.com:80:80/", "port", id="two ports"),
        pytest.param("https://example.com./", "full stop", id="trailing dot"),
        pytest.param("https://exa..mple.com/", "no name", id="empty label"),
        pytest.param("https://-example.com/", "no name", id="hyphen"),
        pytest.param("https://ex%61mple.com/", "no name", id="escaped host"),
        pytest.param("https://ex%2eample.com/", "no name", id="escaped dot"),
        pytest.param("https://" + "a" * 64 + ".example/", "no name", id="long label"),
        pytest.param("https://" + "a." * 130 + "example/", "no name", id="long name"),
        pytest.param("https://℀.example/", "no name", id="slash in disguise"),
        pytest.param("https://example.com/" + "x" * 2029, "Shorten it", id="too long"),
        pytest.param("https://example.com/" + "é" * 400, "Shorten it", id="too long when written out"),
        pytest.param("https://[::1", "cannot be read", id="bracket"),
        pytest.param("https://[v1.example]/", "neither a name nor an address", id="future literal"),
        pytest.param("https://[8.8.8.8]/", "neither a name nor an address", id="IPv4 in brackets"),
    ],
)
def test_bad_urls_are_refused(url: str, reason: str) -> None:
    """A URL that could lead astray is refused with what is wrong, as the field `url`."""
    with pytest.raises(InvalidInput) as refusal:
        checked(url)

    assert refusal.value.field == "url"
    assert reason in str(refusal.value)


DISGUISES = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.01",
    "0",
    "\uff11\uff12\uff17.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127.0.0.0x1",
    "8.8.8.8.8",
    "256.1.1.1",
]


@pytest.mark.parametrize("host", DISGUISES)
def test_disguised_addresses_are_refused_even_if_all_is_open(host: str) -> None:
    """What only some parsers take for an address is refused, so that no two parsers can disagree about it."""
    with pytest.raises(InvalidInput, match="neither a name nor an address"):
        checked(f"https://{host}/", policy=ALL_OPEN)


@pytest.mark.parametrize("text", INSIDE)
def test_inner_addresses_are_refused_in_urls(text: str) -> None:
    """A URL with an inner address is refused at once, naming the address and the setting."""
    host = f"[{text}]" if ":" in text else text

    with pytest.raises(InvalidInput) as refusal:
        checked(f"https://{host}/")

    assert text in str(refusal.value)
    assert "`[egress] allow_subnets`" in str(refusal.value)


def test_refusals_show_an_address_as_it_was_written() -> None:
    """An unusual spelling of an address is named beside the usual one, so that its author finds it."""
    with pytest.raises(InvalidInput, match=r"`0:0::127\.0\.0\.1`.* ::7f00:1 is in ::/96"):
        checked("https://[0:0::127.0.0.1]/")


def test_a_zone_is_refused_even_if_the_address_is_open() -> None:
    """A URL cannot pick a network interface of this machine."""
    with pytest.raises(InvalidInput, match="network interface"):
        checked("https://[fe80::1%25eth0]/", policy=ALL_OPEN)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost", "ⓛocalhost"])
def test_localhost_needs_loopback_open(host: str) -> None:
    """Names that always mean this machine are refused unless loopback is open."""
    with pytest.raises(InvalidInput, match="leads back to this machine"):
        checked(f"https://{host}/")

    assert checked(f"https://{host}/", policy=LOOPBACK_OPEN) == f"https://{host.lower().replace('ⓛ', 'l')}/"


def test_http_needs_the_setting() -> None:
    """Plain HTTP is used only where the operator turned `https_only` off."""
    assert checked("http://example.com/", https_only=False) == "http://example.com/"


@given(
    url=st.text(max_size=60)
    | st.builds("https://{}{}".format, st.text(max_size=20), st.text(max_size=20))
    | st.from_regex(r"https?://[a-z0-9.:\[\]@%-]{0,30}/[ -~]{0,20}", fullmatch=True)
)
def test_any_text_is_used_safely_or_refused(url: str) -> None:
    """Whatever is given is either refused, or comes out such that it is stable and every parser sees one host."""
    try:
        used = checked(url, https_only=False)
    except InvalidInput:
        return

    assert used.isascii()
    assert checked(used, https_only=False) == used
    parsed = URL(used, encoded=True)
    assert parsed.raw_host == URL(used).raw_host
    assert parsed.raw_user is None
    assert parsed.raw_host is not None
    assert f"//{parsed.raw_host}" in used or f"//[{parsed.raw_host}]" in used
