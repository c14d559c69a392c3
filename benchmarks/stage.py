"""The stage of a benchmark: a database, subscribers, a producer and the service itself, all real processes.

What is counted and compared is left to each benchmark.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import trustme

from benchmarks import events, subscribers
from benchmarks.children import Child, child
from benchmarks.errors import BenchmarkError
from benchmarks.postgres import Database, open_database, open_folder
from benchmarks.result import Checked
from benchmarks.service import Service, serve

SAMPLES: Final = 50
"""Requests whose signature is checked, of all that are expected at a time."""

LOOK_EVERY: Final = 0.02
"""Seconds between looks whether all results are written down."""

START_SECONDS: Final = 60.0
"""For a part to begin, or to answer a question that takes it no time."""

ALL_WRITTEN: Final = """
select not exists (select from dispatcher.outbox_unread) and not exists (select from dispatcher.deliveries)
"""

WRITTEN: Final = """
select tenant, id::text from dispatcher.outbox where inserted_at >= $1
"""

RECORDED: Final = """
select endpoints.tenant, finished_deliveries.event_id::text as id
from dispatcher.finished_deliveries
join dispatcher.endpoints on endpoints.id = finished_deliveries.endpoint_id
where finished_deliveries.finished_at >= $1
  and finished_deliveries.state = 'delivered'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the stage holds."""

    postgres: str
    endpoints: int
    """Endpoints that answer; each is of a tenant of its own."""
    refusing: int = 0
    """Endpoints after those, at a port where nobody listens."""
    size: int
    """Bytes of a body."""
    deadline: float
    """Seconds for each act."""
    https: bool = False
    hosts: int = 1
    """Addresses of the receiver, over which the endpoints are spread."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that arrived."""

    key: bytes
    """Path and webhook id."""
    at: float
    """On the monotonic clock, which all processes of a machine share."""


@dataclass(slots=True)
class Stage:
    """All who play a part."""

    setting: Setting
    database: Database
    connection: Any
    """To the database, for looks at it; in no transaction."""
    folder: Path
    urls: list[str]
    receiver: Child
    producer: Child
    bare: Child
    running: Service | None = None
    since: datetime | None = field(default=None, repr=False)

    @property
    def service(self) -> Service:
        """The service; only while `serving`."""
        assert self.running is not None
        return self.running

    @asynccontextmanager
    async def serving(
        self, *, workers: int = 1, settings: str = "", bears: Collection[str] = ()
    ) -> AsyncIterator[Service]:
        """Run the service; raises BenchmarkError if it complained in the end, of other things than `bears`."""
        if self.setting.https:
            settings = f'ca_file = "{self.folder / "ca.pem"}"\n{settings}'
        async with serve(
            self.database.url, self.folder, self.connection, workers=workers, settings=settings
        ) as self.running:
            yield self.running
        complaints = self.running.complaints() - set(bears)
        if complaints:
            raise BenchmarkError(f"The service complained: {', '.join(sorted(complaints))}.")

    async def expect(self, count: int, *, samples_of: int = 0) -> None:
        """Begin anew: let the receiver forget what came, and tell when `count` requests will have come.

        `samples_of`: how many come, about, where there is nobody to be told of `count`.
        """
        self.since = await self.connection.fetchval("select clock_timestamp()")
        about = count or samples_of
        sample_every = max(1, about // SAMPLES) if about else 0
        await self.receiver.ask(START_SECONDS, expect=count, sample_every=sample_every)

    async def prepare(self, count: int) -> None:
        """Write events in a transaction that `commit` will end."""
        await self.producer.ask(self.setting.deadline, stage=self._wanted(count))

    async def commit(self) -> float:
        """Let everyone see the prepared events; returns when that began, on the monotonic clock."""
        answer = await self.producer.ask(self.setting.deadline, commit=True)
        return float(answer["at"])

    async def insert(self, count: int, *, first: int = 0, endpoints: range | None = None) -> None:
        """Write and commit some events, to all endpoints or some; `first` is the number of the first one."""
        wanted = {**self._wanted(count), "from": first}
        if endpoints is not None:
            wanted |= {"first": endpoints.start, "endpoints": len(endpoints)}
        await self.producer.ask(self.setting.deadline, insert=wanted)

    async def stream(self, count: int, *, rate: float, beat: float, endpoints: int | None = None) -> "Notes":
        """Write events at a steady rate to all endpoints, or the first of them; returns when the last one is committed."""
        notes = self.folder / "notes"
        wanted = self._wanted(count)
        wanted["endpoints"] = endpoints or wanted["endpoints"]
        within = self.setting.deadline + count / rate
        answer = await self.producer.ask(within, stream={**wanted, "rate": rate, "beat": beat, "notes": str(notes)})
        return Notes(read_notes(notes), answer["late"])

    def _wanted(self, count: int) -> dict[str, Any]:
        return {"events": count, "endpoints": self.setting.endpoints, "size": self.setting.size}

    async def all_delivered(self) -> None:
        """Wait until all that is expected has arrived and is written down."""
        await self.receiver.hear(self.setting.deadline)
        try:
            async with asyncio.timeout(self.setting.deadline):
                while not await self.connection.fetchval(ALL_WRITTEN):  # noqa: ASYNC110 - the database tells no one
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise BenchmarkError("All arrived, but not all results were written down in time.") from None

    async def arrived(self) -> int:
        """Ask how many requests came since `expect`."""
        answer = await self.receiver.ask(START_SECONDS, count=True)
        return int(answer["count"])

    async def arrivals(self) -> tuple[list[Arrival], int]:
        """List what arrived since `expect`, in order; and how many signatures of samples are good."""
        file = self.folder / "arrived"
        report = await self.receiver.ask(START_SECONDS, report=str(file))
        found = [line.rsplit(b" ", 1) for line in file.read_bytes().splitlines()]
        verified = subscribers.verify(report["samples"], size=self.setting.size)
        return [Arrival(key, float(at)) for key, at in found], verified

    async def check_written(self, arrivals: list[Arrival], *, verified: int) -> Checked:
        """Compare what arrived with what was written since `expect`; raises BenchmarkError unless it is the same."""
        return self._check(arrivals, await self.connection.fetch(WRITTEN, self.since), verified)

    async def check_recorded(self, arrivals: list[Arrival], *, verified: int) -> Checked:
        """Compare what arrived with what the service says is delivered, after it was stopped amidst its work."""
        return self._check(arrivals, await self.connection.fetch(RECORDED, self.since), verified)

    def _check(self, arrivals: list[Arrival], rows: list[Any], verified: int) -> Checked:
        paths = {events.tenant(endpoint): events.path(endpoint) for endpoint in range(len(self.urls))}
        meant = {f"{paths[row['tenant']]} {row['id']}".encode() for row in rows}
        return check([arrival.key for arrival in arrivals], meant, verified=verified)


def check(arrived: list[bytes], meant: set[bytes], *, verified: int) -> Checked:
    """Compare what arrived with what was meant to, path and id; raises BenchmarkError unless each came once."""
    distinct = set(arrived)
    lost, duplicates = len(meant - distinct), len(arrived) - len(distinct)
    if lost or duplicates or distinct - meant:
        raise BenchmarkError(
            f"Of {len(meant)} deliveries {lost} were lost; {duplicates} duplicates and {len(distinct - meant)} requests "
            "that nobody meant arrived."
        )
    return Checked(delivered=len(distinct), lost=lost, duplicates=duplicates, verified=verified)


@dataclass(frozen=True, slots=True)
class Note:
    """What the producer knows of an event; instants are on the monotonic clock."""

    committing: float
    """Just before the commit."""
    committed: float
    """When it had returned."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What the producer knows of a stream."""

    of: dict[bytes, Note]
    """By event id."""
    late: float
    """Seconds that the producer fell behind its schedule, at most."""


def read_notes(file: Path) -> dict[bytes, Note]:
    """Read what the producer noted."""
    lines = (line.split() for line in file.read_bytes().splitlines())
    return {id_: Note(float(committing), float(committed)) for id_, committing, committed in lines}


@asynccontextmanager
async def open_stage(setting: Setting) -> AsyncIterator[Stage]:
    """Set the stage, with all but the service."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(setting.postgres))
        folder = stack.enter_context(open_folder())
        connection = await asyncpg.connect(database.url, server_settings={"application_name": "benchmark"})
        stack.push_async_callback(connection.close)
        hosts = subscribers.hosts(setting.hosts)
        listen: dict[str, Any] = {"hosts": hosts}
        if setting.https:
            listen["certificate"] = str(make_certificate(folder))
        receiver = await stack.enter_async_context(child("receiver", orjson.dumps(listen).decode()))
        port = (await receiver.hear(START_SECONDS))["port"]
        scheme = "https" if setting.https else "http"
        urls = subscribers.urls(scheme, port, endpoints=setting.endpoints, hosts=hosts)
        nowhere = [
            f"http://127.0.0.1:{CLOSED_PORT}{events.path(setting.endpoints + number)}"
            for number in range(setting.refusing)
        ]
        await subscribers.create(connection, [*urls, *nowhere])
        producer = await stack.enter_async_context(child("producer", database.url))
        await producer.hear(START_SECONDS)
        bare = await stack.enter_async_context(child("bare", *([str(folder / "ca.pem")] * setting.https)))
        yield Stage(setting, database, connection, folder, [*urls, *nowhere], receiver, producer, bare)


CLOSED_PORT: Final = 1
"""Of 127.0.0.1; nobody listens there."""


def make_certificate(folder: Path) -> Path:
    """Make `ca.pem`, and a certificate with its key for the receiver; returns where the latter is."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server)
    return server
