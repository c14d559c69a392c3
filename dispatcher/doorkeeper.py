"""Holds events and subscriptions against the catalogue in force; what follows from that is for others to do.

The catalogue is that of the configured files, or else of the documents in the database, which all processes see: a new
import is noticed within a second. Without any event type there is nothing to hold against, whatever the mode.
"""

import asyncio
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from dispatcher.catalog import documents
from dispatcher.catalog.catalog import Catalog
from dispatcher.clock import Clock
from dispatcher.errors import CatalogError, InvalidInput
from dispatcher.operational import is_operational
from dispatcher.store import catalog as store

FRESH_SECONDS: Final = 1.0
"""For so long fan-out goes on with a catalogue before it looks for a new import: a query a batch would be a tenth more."""

SLICE: Final = 0.005
"""Seconds of judging after which other work gets its turn. An event takes 5 to 10 us, one of 20 kB a tenth of a millisecond."""

_EMPTY: Final = Catalog()


class Mode(StrEnum):
    """What becomes of an event that the catalogue speaks against: its type is unknown, or its payload does not fit."""

    OFF = "off"
    """Nothing: nobody looks."""
    WARN = "warn"
    """It is delivered, logged and counted."""
    ENFORCE = "enforce"
    """It is refused at the door, or where it came by SQL: kept, but not delivered."""


class Doorkeeper:
    """Knows the catalogue in force. The files are read when they are first needed."""

    def __init__(self, mode: str = Mode.OFF, *, files: Sequence[Path] = (), clock: Clock | None = None) -> None:
        self.mode = Mode(mode)
        self.files = tuple(files)
        self._catalog: Catalog | None = None
        self._import: UUID | None = None
        self._clock = clock or Clock()
        self._looked_at: float | None = None
        self.fault: CatalogError | None = None
        """What is wrong with the documents in the database, if they cannot be used."""

    async def catalog(self, connection: Any, *, may_be_old: bool = False) -> Catalog:
        """Return the catalogue in force; with `may_be_old` that of a second ago will do.

        Raises CatalogError if there is none that can be used; one that was in use stays so, and `fault` tells why.
        """
        if self.files:
            return self.of_files()
        now = self._clock.monotonic()
        if not (may_be_old and self._looked_at is not None and now < self._looked_at + FRESH_SECONDS):
            self._looked_at = now
            await self._look(connection)
        if self._catalog is None and self.fault is not None:
            raise self.fault
        return self._catalog or _EMPTY

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hold anything against, as far as was looked."""
        return not self._catalog

    def of_files(self) -> Catalog:
        """Return the catalogue of the configured files, an empty one without any; raises CatalogError if one is broken."""
        if self._catalog is None and self.files:
            self._catalog = Catalog.read(self.files)
        return self._catalog or _EMPTY

    async def _look(self, connection: Any) -> None:
        if await store.current(connection) == self._import:
            return
        self._import, stored = await store.documents(connection)
        try:
            # reading takes tenths of a second, in which requests go on
            self._catalog, self.fault = await asyncio.to_thread(_read, stored), None
        except CatalogError as error:  # imported by another release, or written into the table by hand
            self.fault = error

    async def judge(self, connection: Any, events: Iterable[tuple[str, str]]) -> list[str | None]:
        """Say of each event, given as type and payload, what speaks against it; null: nothing.

        Without a catalogue that can be used nothing does: events are not held up for an operator's mistake.
        """
        if self.mode is Mode.OFF:
            return [None for _ in events]
        try:
            catalog = await self.catalog(connection, may_be_old=True)
        except CatalogError:
            catalog = _EMPTY
        if not catalog:
            return [None for _ in events]
        reasons: list[str | None] = []
        turn = self._clock.monotonic()
        for event_type, payload in events:
            # what the service itself tells is no catalogue's to judge
            faults = () if is_operational(event_type) else catalog.judge(event_type, payload)
            reasons.append(" ".join(map(str, faults)) or None)
            if self._clock.monotonic() > turn + SLICE:
                await asyncio.sleep(0)  # no waiting: requests in flight go on meanwhile
                turn = self._clock.monotonic()
        return reasons

    async def admit(self, connection: Any, subscriptions: Sequence[str]) -> tuple[str, ...]:
        """Return subscriptions with aliases put into names; raises InvalidInput for one that nothing can match."""
        catalog = await self.catalog(connection)
        if self.mode is not Mode.OFF and catalog:
            for pattern in subscriptions:
                if not (catalog.matching(pattern) or is_operational(pattern)):
                    raise InvalidInput(_unmatched(catalog, pattern), field="subscriptions")
        return tuple(dict.fromkeys(map(catalog.canonical, subscriptions)))


def _read(stored: Sequence[store.StoredDocument]) -> Catalog:
    return Catalog([documents.parse(one.text, one.name) for one in stored])


def _unmatched(catalog: Catalog, pattern: str) -> str:
    mend = "`dispatcher catalog list` shows all."
    if not pattern.endswith(".*"):
        return f"{catalog.unknown(pattern)} {mend}"
    near = catalog.near_patterns(pattern)
    meant = f" Did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
    return f"No event type of the catalogue matches `{pattern}`.{meant} {mend}"
