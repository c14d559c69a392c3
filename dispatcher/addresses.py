"""Where requests may go: the address policy and the rules for a subscriber's URL. Pure; `egress` enforces both.

A subscriber names the URL, this service fetches it: without a policy that is a way to reach whatever the service can
(server-side request forgery). The standard library's `is_global` is not enough, it lets NAT64, 6to4, multicast and
cloud oddities through; hence an explicit list.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from urllib.parse import quote

from yarl import URL

from dispatcher.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SETTING = "`[egress] allow_subnets`"
HTTPS_SETTING = "`[egress] https_only`"

MAX_URL_LENGTH = 2048
"""Characters. What proxies and servers take without ado; a webhook's URL has no reason to be longer."""

DENIED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "Azure's own service"),  # global for every registry, yet it answers inside only
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        # What carries an IPv4 address inside is denied whole: who would unwrap it, and to what, is not ours to say.
        ("::1/128", "loopback"),
        ("::/96", "unspecified, or IPv4 inside IPv6"),
        ("64:ff9b::/96", "NAT64: IPv4 inside IPv6"),
        ("64:ff9b:1::/48", "NAT64: IPv4 inside IPv6"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo: IPv4 inside IPv6"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4: IPv4 inside IPv6"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        # All that is ever given out lies in 2000::/3 (RFC 4291); the rest is not on the internet.
        ("::/3", "not global unicast"),
        ("4000::/2", "not global unicast"),
        ("8000::/1", "not global unicast"),
    )
)
"""Networks that no request may go to, the narrower before the wider, and what each is."""

_MAPPED = IPv6Network("::ffff:0:0/96")


class AddressPolicy:
    """Judge addresses: everything in `DENIED` is refused but what the operator opened."""

    def __init__(self, allow_subnets: Iterable[Network] = ()) -> None:
        self._allowed = tuple(_unmapped(network) for network in allow_subnets)

    def refusal(self, address: Address) -> str | None:
        """Return why nothing may be sent to `address`, in one line for people, or None if it may.

        An IPv4-mapped address (`::ffff:127.0.0.1`) is judged by the IPv4 inside, as the kernel will do; a zone
        (`fe80::1%eth0`) changes nothing.
        """
        inside = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        judged = inside or address
        if any(judged in network for network in self._allowed):
            return None
        for network, what in DENIED:
            if judged in network:
                shown = f"::ffff:{inside}" if inside else str(address)
                return (
                    f"{shown} is in {network} ({what}), where no request may go unless {SETTING} holds it "
                    "or a network around it."
                )
        return None

    @property
    def allows_loopback(self) -> bool:
        """True if this machine itself may be reached, by which name or address family ever."""
        return self.refusal(IPv4Address("127.0.0.1")) is None or self.refusal(IPv6Address("::1")) is None


def _unmapped(network: Network) -> Network:
    """Return the IPv4 network that an IPv4-mapped one stands for, so that it opens what it says."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        inside = network.network_address.ipv4_mapped
        return IPv4Network((int(inside or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


@dataclass(frozen=True, slots=True)
class _Split:
    """A URL cut where RFC 3986 cuts it, before anybody interpreted a part."""

    scheme: str
    host: str
    """In brackets if it came so."""
    port: str | None
    rest: str
    """Path and query."""


_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[^\[\]/?]*\]|[^:\[\]/?]*)(?::(?P<port>[^/?]*))?"
    r"(?P<rest>(?:[/?].*)?)"
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME_LENGTH = 253  # RFC 1035: 255 bytes on the wire
_MAX_PORT = 65535

_OTHERS_PORTS = frozenset(
    int(port)
    for port in (  # noqa: SIM905 - a list of them would be eighty lines
        "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135 137 "
        "139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 1720 "
        "1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080"
    ).split()
)
"""Of other protocols, whose servers may take a POST for commands (a mail, a job): what browsers refuse, too (Fetch
Standard, "port blocking")."""
_KEPT = "/?:@!$&'()*+,;=-._~%[]"


def check_url(url: str, *, https_only: bool, policy: AddressPolicy) -> str:
    """Return a subscriber's URL as it will be used: scheme and host in lower case, all of it ASCII, the rest untouched.

    Raises `InvalidInput` for whatever a request could be led astray with. A name is not resolved: its addresses are
    judged when they are connected to, each time.
    """
    _check_characters(url)
    split = _split(url)
    _check_scheme(split.scheme.lower(), https_only=https_only)
    host = _host(split.host, policy=policy)
    port = _port(split.port)
    checked = f"{split.scheme.lower()}://{host}{port}{quote(split.rest, safe=_KEPT)}"
    if len(checked) > MAX_URL_LENGTH:
        raise _refused(f"is longer than {MAX_URL_LENGTH} characters once written in ASCII. Shorten it")
    return checked


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"The URL {why}.", field="url")


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL_LENGTH:
        raise _refused(f"has {len(url)} characters. Shorten it to at most {MAX_URL_LENGTH}")
    for character in url:
        if character.isspace() or not character.isprintable():
            raise _refused(
                f"holds white space or a control character (U+{ord(character):04X}). Leave it out or write %20"
            )
    if "\\" in url:  # Some parsers read it as "/", some do not: two hosts in one URL.
        raise _refused("holds a backslash. Write / or %5C")
    if "#" in url:
        raise _refused("has a fragment (#…), which no request carries. Leave it out")


def _split(url: str) -> _Split:
    match = _SHAPE.fullmatch(url)
    authority = re.split("[/?]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        raise _refused(
            "holds a user name or password (…@), which would be kept and shown with it. "
            "Leave it out, and set a header of the webhook instead"
        )
    if match is None:
        raise _refused("cannot be read. Write it whole, like https://example.com/webhooks")
    return _Split(match["scheme"], match["host"], match["port"], match["rest"])


def _check_scheme(scheme: str, *, https_only: bool) -> None:
    if scheme == "https" or (scheme == "http" and not https_only):
        return
    if scheme == "http":
        raise _refused(
            f"starts with http://, which anybody on the way can read. Use https:// (or turn off {HTTPS_SETTING})"
        )
    raise _refused(f"starts with {scheme[:20]}://. Use https://")


def _port(port: str | None) -> str:
    if port is None:
        return ""
    if not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > _MAX_PORT:
        raise _refused(f"has the port `{port[:20]}`. Give a number from 1 to 65535, or leave it out with its colon")
    if int(port) in _OTHERS_PORTS:
        raise _refused(
            f"has the port `{port}`, which belongs to another protocol than HTTP. Use another one, best of all 443"
        )
    return f":{port}"


def _host(host: str, *, policy: AddressPolicy) -> str:
    """Return a host that is plainly an address the policy lets through, or plainly a name; refuse what could be both.

    The spellings that only some parsers take for an address (`2130706433`, `0177.0.0.1`, `127.1`, digits of other
    scripts) are refused whatever they stand for.
    """
    if not host:
        raise _refused("has no host. Write it whole, like https://example.com/webhooks")
    if host.startswith("["):
        return f"[{_literal(IPv6Address, host[1:-1].replace('%25', '%'), policy=policy)}]"
    name = _ascii(host)
    last = name.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        return str(_literal(IPv4Address, host, policy=policy))
    if name.endswith("."):
        raise _refused("has a host that ends with a full stop. Leave it out")
    if len(name) > _MAX_NAME_LENGTH or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _refused(f"has the host `{host[:100]}`, which is no name on the internet")
    if (last == "localhost") and not policy.allows_loopback:
        raise _refused(f"leads back to this machine ({name}). Give a public host, or open 127.0.0.0/8 in {SETTING}")
    return name


def _literal(kind: type[Address], text: str, *, policy: AddressPolicy) -> Address:
    try:
        address = kind(text)
    except AddressValueError:
        raise _refused(
            f"has the host `{text[:100]}`, which is neither a name nor an address as usually written. "
            "Write an address as four decimal numbers or, for IPv6, in brackets"
        ) from None
    if refusal := policy.refusal(address):
        raise _refused(f"has the host `{text}`, which cannot be used: {refusal.removesuffix('.')}")
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise _refused(f"names a network interface of this machine (%{address.scope_id}). Leave that out")
    return address


def _ascii(host: str) -> str:
    """Return the host as it goes on the wire: lower case, international names in their `xn--` form."""
    if host.isascii():
        return host.lower()
    try:
        name = URL.build(scheme="https", host=host).raw_host or ""
    except ValueError:
        name = ""
    if not name.isascii() or not name or set(name) & set("/?#@:[]%"):
        raise _refused(f"has the host `{host[:100]}`, which is no name on the internet")
    return name.lower()
