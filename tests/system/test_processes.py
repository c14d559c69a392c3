"""What `dispatcher serve` does where it cannot begin, and while its database is away or out of reach."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dispatcher import postmaster
from dispatcher.embedded import EmbeddedPostgres
from support import postgres
from support.command_line import command_line
from support.proxy import Proxy
from support.receiver import ANY, Receiver, answer
from support.serving import serving
from support.tally import arrivals, delayed, expected, quiet, recorded, repeated, settled
from support.world import insert_event, insert_events, make_endpoint, until

pytestmark = pytest.mark.system

CONFIG, DATABASE = 2, 3


@pytest.fixture
async def proxy(postgres_server: EmbeddedPostgres) -> AsyncIterator[Proxy]:
    """What stands between a service and the server."""
    async with Proxy(postgres_server.socket) as proxy:
        yield proxy


@pytest.fixture
def distant(database: str, proxy: Proxy) -> str:
    """The URL of the same database as `database`, through the proxy."""
    name = database.partition("?")[0].rpartition("/")[2]
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable"


async def leases_have_run_out(connection: Any) -> bool:
    """Whether nobody holds a shard any more."""
    return not await connection.fetchval("select exists (select from dispatcher.shard_leases where expires_at > now())")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_taken_ops_port_is_named_before_anything_is_sent(database: str, connection: Any, workers: str) -> None:
    """Address and setting are named, exit code 2; no shard was taken, no request made."""
    async with Receiver() as receiver:
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        command = command_line(
            database,
            OPS__LISTEN=f"127.0.0.1:{receiver.port}",
            EGRESS__HTTPS_ONLY="false",
            EGRESS__ALLOW_SUBNETS="127.0.0.0/8",
        )

        end = await asyncio.to_thread(command.process, "serve", "--workers", workers)

        assert end.code == CONFIG
        assert end.stderr.startswith("Error: ")
        assert f"127.0.0.1:{receiver.port}" in end.stderr
        assert "DISPATCHER_OPS__LISTEN" in end.stderr
        assert "Traceback" not in end.stderr
        assert receiver.received == []
        assert await leases_have_run_out(connection)


@pytest.mark.parametrize(
    "allowed, limited",
    [pytest.param(1000, True, id="little is allowed"), pytest.param(5000, False, id="enough is allowed")],
)
def test_the_limit_of_open_files_is_raised_as_far_as_allowed(allowed: int, limited: bool) -> None:  # noqa: FBT001 - parametrized
    """Each connection is an open file, and the usual soft limit is low; too little is said."""
    script = f"""if True:
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, {allowed}))
        from dispatcher import app, logs
        logs.configure(format="json")
        app.raise_file_limit(65536)
        print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    """

    *said, limit = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.splitlines()

    assert int(limit) == allowed
    assert [(json.loads(line)["event"], json.loads(line)["limit"]) for line in said] == (
        [("files.limited", allowed)] if limited else []
    )


async def test_two_processes_share_an_embedded_database(pytestconfig: pytest.Config) -> None:
    """The second joins the server that the first has started; the last to go stops it."""
    with postgres.data_directory() as folder:
        own = str(folder)
        async with (
            Receiver() as receiver,
            serving(None, database__data_directory=own) as first,
            serving(None, database__data_directory=own) as second,
        ):
            server = EmbeddedPostgres(folder)
            await server.start()
            connection = await asyncpg.connect(server.url)
            await make_endpoint(connection, f"{receiver.url}/hook")
            await insert_event(connection)
            await settled(connection, 1)

            assert await first.terminate() == 0
            await insert_event(connection)
            await settled(connection, 2)

            await connection.close()
            pid = server.pid
            await server.stop()
            assert postmaster.serves(pid, folder / "cluster")
            assert await second.terminate() == 0
            assert not postmaster.serves(pid, folder / "cluster")


async def test_a_service_waits_a_while_for_its_database(
    distant: str, proxy: Proxy, connection: Any, unused_tcp_port: int
) -> None:
    """It begins when the database comes within seconds; if it does not, it ends with a message and exit code 3."""
    await proxy.refuse()
    nowhere = f"postgresql://app:hunter2@127.0.0.1:{unused_tcp_port}/clinic"
    async with serving(distant, wait=False) as patient, serving(nowhere, wait=False) as hopeless:
        assert patient.lines == []
        await proxy.accept()

        await patient.ready()
        assert await hopeless.ended() == DATABASE

        assert hopeless.said.startswith("Error: ")
        assert f"127.0.0.1 port {unused_tcp_port}" in hopeless.said or f"127.0.0.1:{unused_tcp_port}" in hopeless.said
        assert "DISPATCHER_DATABASE__URL" in hopeless.said
        assert "hunter2" not in hopeless.said
        assert "Traceback" not in hopeless.said


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_outage_of_the_database_costs_no_duplicate(
    distant: str, proxy: Proxy, connection: Any, workers: int
) -> None:
    """What was in flight is written down when the database is back, longer than the leases; it says so, once each."""
    answered = asyncio.Event()
    async with Receiver() as receiver, serving(distant, workers=workers) as process:
        receiver.on(ANY, answer(204, after=answered))
        for path in ("/a", "/b", "/c"):
            await make_endpoint(connection, receiver.url + path)
        await insert_events(connection, 100)
        await receiver.wait_for(12)

        await proxy.refuse()
        answered.set()
        await process.says("database.lost", count=workers)
        await until(lambda: leases_have_run_out(connection), why="the end of the leases")
        away = [await process.get("/readyz"), await process.get("/healthz")]
        await quiet(receiver)
        await proxy.accept()
        await settled(connection, 300)
        await until(process.is_ready, why="/readyz")

        assert [status for status, _ in away] == [503, 200]
        assert "database" in away[0][1]
        counted = arrivals(receiver)
        assert set(counted) == await expected(connection, ["/a", "/b", "/c"]) == await recorded(connection)
        assert repeated(counted) == set()
        for event in ("database.lost", "database.returned"):
            assert len(process.logged(event)) == workers
        assert process.logged("step.failed") == []
        assert process.logged("library.logged") == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_readiness_is_answered_while_the_database_answers_nothing(
    distant: str, proxy: Proxy, workers: int
) -> None:
    """No answer of the database is an answer to /readyz, within seconds, again and again; then all is well again."""
    async with serving(distant, workers=workers) as process:
        proxy.swallow()

        away = [await process.get("/readyz", timeout=8) for _ in range(2)]
        alive = await process.get("/healthz")
        proxy.release()

        assert [status for status, _ in [*away, alive]] == [503, 503, 200]
        await until(process.is_ready, why="/readyz")
        assert await process.terminate() == 0


async def test_a_worker_process_that_begins_without_its_database_waits_for_it(
    distant: str, proxy: Proxy, connection: Any
) -> None:
    """It neither dies nor fills the log, /readyz says why; when the database is back, it works. It can be told to end."""
    async with Receiver() as receiver, serving(distant, workers=2) as process:
        await make_endpoint(connection, f"{receiver.url}/hook")
        await proxy.refuse()
        for worker in process.workers():
            worker.kill()
        await process.says("database.lost", count=2, timeout=30)
        away = await process.get("/readyz")
        await proxy.accept()

        await process.says("worker.started", count=4, timeout=30)
        await until(process.is_ready, why="/readyz")
        await insert_event(connection)
        await settled(connection, 1)

        assert away[0] == 503
        assert "database" in away[1]
        assert len(process.logged("worker.died")) == 2
        assert len(process.logged("database.returned")) == 2
        assert process.said == ""
        await proxy.refuse()
        process.workers()[0].kill()
        await process.says("database.lost", count=4, timeout=30)
        assert await process.terminate() == 0


@pytest.mark.parametrize("how", ["refused", "swallowed"])
async def test_a_worker_ends_in_time_while_its_database_is_away(
    distant: str, proxy: Proxy, connection: Any, how: str
) -> None:
    """It gives up what it cannot write down, and says so; others would take its shards when the leases run out."""
    answered = asyncio.Event()
    async with Receiver() as receiver, serving(distant, delivery__grace="1s") as process:
        receiver.on(ANY, answer(204, after=answered))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await receiver.wait_for(1)
        if how == "refused":
            await proxy.refuse()
        else:
            proxy.swallow()
        answered.set()
        await process.says("delivery.attempted")

        assert await process.terminate(timeout=30) == 0

        assert process.logged("results.lost", results=1)
        assert process.logged("shards.not_given_back")


async def test_a_worker_that_lost_the_way_to_its_database_is_replaced_and_stops(
    database: str, distant: str, proxy: Proxy, connection: Any
) -> None:
    """Its shards go to another worker after the lease; it sends nothing more for them, and says so when it is back."""
    async with (
        Receiver() as receiver,
        serving(distant, egress__user_agent="cut-off", shards__lease="1s") as cut_off,
    ):
        receiver.on(ANY, delayed(0.01))
        await make_endpoint(connection, f"{receiver.url}/hook", rate_limit=100.0)
        await insert_events(connection, 400)
        await receiver.wait_for(50)
        proxy.swallow()
        async with serving(database, egress__user_agent="other", shards__lease="1s") as other:
            await until(lambda: sent_by(receiver, "other"), timeout=20, why="the other worker's first request")
            before = len(sent_by(receiver, "cut-off"))
            await settled(connection, 400, timeout=30)

            assert len(sent_by(receiver, "cut-off")) == before < 400
            proxy.release()
            await cut_off.says("shards.lost")

            counted = arrivals(receiver)
            assert set(counted) == await expected(connection, ["/hook"]) == await recorded(connection)
            # what it had sent since its last result was written down, until its lease ended: a second's worth, and a beat's
            assert len(repeated(counted)) <= 150
            assert await other.terminate() == 0
        await insert_event(connection)
        await settled(connection, 401)


def sent_by(receiver: Receiver, user_agent: str) -> list[Any]:
    """The requests of one worker."""
    return [request for request in receiver.received if request.headers["user-agent"] == user_agent]
