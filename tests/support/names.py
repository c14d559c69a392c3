"""Name resolution without a network: made-up names, and where they lead."""

import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """A resolver that knows only what it was told; any other name fails as an unknown one does.

        names = Names({"good.example": ["127.0.0.1"]})
        names.lead("good.example", "10.0.0.1")  # it changed its mind

    The port stays the URL's.
    """

    def __init__(self, known: dict[str, Sequence[str]] | None = None) -> None:
        self.asked: list[str] = []
        """Every name that was looked up, in order."""
        self._known: dict[str, Sequence[str]] = dict(known or {})

    def lead(self, name: str, *addresses: str) -> None:
        """Let a name lead to these addresses from now on."""
        self._known[name] = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return what is known; raises what `getaddrinfo` raises for a name that does not exist."""
        self.asked.append(host)
        if host not in self._known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in self._known[host]
        ]

    async def close(self) -> None:
        """Nothing is held."""
