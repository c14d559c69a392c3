"""Run a real PostgreSQL beside the service, from the programs of a wheel or of the machine, and let it be shared.

A data directory serves any number of processes of this machine at once: the first to come starts the server, the last
to go stops it. A server whose processes were all killed lives on and is adopted by the next. PostgreSQL refuses to run
as root, so root runs it as another user. What is stored in it is none of this module's business.

    data directory/
      cluster/        what PostgreSQL calls its data directory
      server.log      what it printed
      password        for connections by TCP, where a port is asked for; through the socket none is needed
      starting.lock   held while a server is started or stopped
      users.lock      held, shared, by every process that uses the server
      binaries-…/     a copy of the wheel's programs, where root's own are out of the other user's reach
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote, urlencode

import asyncpg
import tenacity

from dispatcher.binaries import Programs, find_programs
from dispatcher.errors import DatabaseError
from dispatcher.postmaster import Postmaster, exists, read_postmaster, remnants, serves

START_SECONDS: Final = 60
"""As `pg_ctl` waits by default: recovery after a crash can take that long."""

ABANDONED_SECONDS: Final = 5
"""For a server to end that was told to drop everything: it waits as long itself before it kills what does not."""

SOCKET_PATH_LIMIT: Final = 85
"""A Unix socket's path may have 103 bytes on macOS, 107 on Linux; `/.s.PGSQL.5432` comes on top."""

DEFAULT_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jit": "off",  # every statement here is short
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",  # nobody rotates server.log
        "max_wal_size": "2GB",  # fewer full-page images under load
        "autovacuum_naptime": "10s",  # queue tables turn over in seconds
    }
)

StopMode = Literal["fast", "immediate"]


class _NotYet(DatabaseError):
    """What is in the way will be gone in a moment."""


class EmbeddedPostgres:
    """A PostgreSQL server in a data directory of ours.

    `data_directory` is made if it is missing. `bin_directory` holds `initdb`, `pg_ctl` and `postgres`; null: those of
    the wheel. `settings` go to the server as `-c name=value`, over `DEFAULT_SETTINGS`. `port`: null for no TCP at all,
    0 for any free port of 127.0.0.1. The URL stays the same over restarts.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        bin_directory: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
        database: str = "dispatcher",
    ) -> None:
        self.data_directory = data_directory.absolute()
        self.cluster = self.data_directory / "cluster"
        self.log = self.data_directory / "server.log"
        self.database = database
        self._settings = {**DEFAULT_SETTINGS, **settings}
        self._given_bin_directory = bin_directory
        self._port = port
        self._programs: Programs | None = None
        self._users_lock: int | None = None
        self._running: Postmaster | None = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, unless others still use the server."""
        await self.stop()

    @property
    def url(self) -> str:
        """Where the database is, for asyncpg and libpq alike, by the Unix socket; needs no password."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """As `url`, for another database of the same server."""
        query = urlencode({"host": self._serving.socket_directory, "port": self._serving.port}, safe="/")
        return f"postgresql://postgres@/{quote(database)}?{query}"

    @property
    def tcp_url(self) -> str:
        """Where the database is by TCP, with the password; only if a port was asked for."""
        password = (self.data_directory / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._serving.port}/{quote(self.database)}"

    @property
    def socket(self) -> Path:
        """The Unix socket itself, for a proxy in front of it."""
        return Path(self._serving.socket_directory) / f".s.PGSQL.{self._serving.port}"

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._serving.pid

    async def start(self) -> None:
        """Bring the server up, or join the one that already serves this data directory.

        Raises ConfigError if there are no programs to run, DatabaseError if the data directory cannot be used.
        """
        if self._running is not None:
            return
        self._prepare_directory()
        async with _exclusive(self.data_directory / "starting.lock"):
            self._users_lock = _lock(self.data_directory / "users.lock", fcntl.LOCK_SH)
            try:
                self._programs = await find_programs(self._given_bin_directory, data_directory=self.data_directory)
                if not (self.cluster / "PG_VERSION").exists():
                    await self._initialise()
                await self._check_major_version()
                self._running = await self._bring_up()
            except BaseException:
                await self._quit("immediate")
                raise

    async def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server unless another process uses it; `immediate` is a crash as PostgreSQL means it."""
        if self._running is not None:
            async with _exclusive(self.data_directory / "starting.lock"):
                await self._quit(mode)

    async def crash(self) -> None:
        """Shut down at once, whoever uses it; the next `start` recovers what was committed. For tests of outages."""
        await self._stop_server("immediate")
        shutil.rmtree(self._serving.socket_directory, ignore_errors=True)
        self._leave()

    def kill(self) -> None:
        """Kill the server's first process with -9; the others notice and end by themselves. For tests of outages."""
        os.kill(self.pid, signal.SIGKILL)
        self._leave()

    def abandon(self) -> None:
        """Forget the server without stopping it, as a process does that is killed with -9."""
        self._leave()

    @property
    def _serving(self) -> Postmaster:
        if self._running is None:
            raise RuntimeError(f"The embedded PostgreSQL in {self.data_directory} is not started.")
        return self._running

    @property
    def _tools(self) -> Programs:
        if self._programs is None:
            raise RuntimeError(f"The embedded PostgreSQL in {self.data_directory} is not started.")
        return self._programs

    def _leave(self) -> None:
        if self._programs is not None:
            self._programs.close()
        self._programs = None
        if self._users_lock is not None:
            os.close(self._users_lock)
        self._users_lock = None
        self._running = None

    async def _quit(self, mode: StopMode) -> None:
        """Give up the server, and stop it if nobody else uses it; under the lock for starting."""
        if self._programs is not None and self._is_last_user() and (found := self._find_live()) is not None:
            await self._stop_server(mode)
            shutil.rmtree(found.socket_directory, ignore_errors=True)
        self._leave()

    async def _stop_server(self, mode: StopMode) -> None:
        await self._run(
            "pg_ctl", "stop", "-D", self._tools.seen(self.cluster), "-m", mode, "-w", "-t", str(START_SECONDS)
        )

    def _is_last_user(self) -> bool:
        if self._users_lock is None:
            return False
        try:
            fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _prepare_directory(self) -> None:
        try:
            self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.geteuid() == 0:
                # the server's user must pass through to cluster/, and see nothing else
                self.data_directory.chmod(stat.S_IMODE(self.data_directory.stat().st_mode) | 0o711)
        except OSError as error:
            raise DatabaseError(
                f"The embedded PostgreSQL's data directory {self.data_directory} cannot be made: {error.strerror}. "
                "Choose another one, or set `[database] url` to an existing server."
            ) from error

    async def _initialise(self) -> None:
        """Create the cluster beside its final name, so that a start cut short leaves nothing half made."""
        fresh = self.data_directory / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = self.data_directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        self._tools.give_away(fresh)
        self._tools.give_away(password)
        unsafe = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        kind = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        access = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self._tools.seen(password)}"]
        await self._run("initdb", "-D", self._tools.seen(fresh), *kind, *access, *unsafe)
        os.chown(password, os.geteuid(), -1)
        fresh.rename(self.cluster)

    async def _check_major_version(self) -> None:
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        runs = await self._tools.major_version()
        if made_by != runs:
            raise DatabaseError(
                f"The data directory {self.data_directory} was made by PostgreSQL {made_by}, but the programs in "
                f"{self._tools.folder} are PostgreSQL {runs}, which cannot read it. Use programs of version {made_by}; "
                "or dump the database with them, and restore it into an empty data directory."
            )

    async def _bring_up(self) -> Postmaster:
        """Adopt or launch the server, and wait until our database is there.

        Goes on for as long as a server is still starting or stopping, or the last processes of a killed one are there.
        """
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_NotYet),
            stop=tenacity.stop_after_delay(START_SECONDS),
            wait=tenacity.wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                found = self._find_live() or await self._launch()
                self._refuse_missing_tcp(found)
                await self._create_database(found)
                return found
        raise AssertionError  # pragma: no cover, the loop returns or raises

    def _find_live(self) -> Postmaster | None:
        """The server that runs on this cluster, whoever started it."""
        found = read_postmaster(self.cluster)
        return found if found is not None and serves(found.pid, self.cluster) else None

    async def _launch(self) -> Postmaster:
        """Start the server and wait until it takes connections."""
        self._clear_stale()
        self.log.touch(mode=0o600)
        self._tools.give_away(self.log)
        socket_directory = self._make_socket_directory()
        try:
            await self._pg_ctl_start(socket_directory)
        except DatabaseError:
            shutil.rmtree(socket_directory, ignore_errors=True)
            raise
        found = self._find_live()
        if found is None:
            raise DatabaseError(f"The embedded PostgreSQL ended at once. Its log is {self.log}.")
        return found

    def _clear_stale(self) -> None:
        """Remove the pid file of a server that is gone, where PostgreSQL itself would not dare to.

        It does for a dead process, but not if the number now belongs to another one, as it does after a reboot or in
        a fresh container.
        """
        _refuse_remnants(self.cluster)
        stale = read_postmaster(self.cluster)
        if stale is not None and exists(stale.pid):
            (self.cluster / "postmaster.pid").unlink()

    async def _pg_ctl_start(self, socket_directory: Path) -> None:
        if self._port == 0:
            self._port = _free_port()
        settings = {
            **self._settings,
            "listen_addresses": "" if self._port is None else "127.0.0.1",
            "port": str(self._port or 5432),
            "unix_socket_directories": str(socket_directory),
            "unix_socket_permissions": "0700",
        }
        options = " ".join(shlex.quote(part) for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        logged = self.log.stat().st_size
        code, printed = await self._tools.run(
            "pg_ctl",
            *("start", "-D", self._tools.seen(self.cluster), "-l", self._tools.seen(self.log), "-o", options),
            *("-s", "-w", "-t", str(START_SECONDS)),
        )
        if code != 0:
            said = self.log.read_text(errors="replace")[logged:][-2000:].strip() or printed
            raise DatabaseError(f"The embedded PostgreSQL in {self.data_directory} does not start. It said:\n{said}")

    def _make_socket_directory(self) -> Path:
        """Make a private, empty folder with a short path that is the same at every start.

        A deep data directory's own path would be too long for a socket.
        """
        owner = self._tools.uid
        name = f"dispatcher-{owner}-{hashlib.sha256(os.fsencode(self.data_directory.resolve())).hexdigest()[:12]}"
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108, see below
            path = Path(parent) / name
            if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_uid in {0, owner}:  # left over; of anybody else's, mkdir below refuses it
                    shutil.rmtree(path)
            try:
                path.mkdir(mode=0o700)
            except OSError:
                path = Path(tempfile.mkdtemp(prefix="dispatcher-", dir=parent))
            self._tools.give_away(path)
            return path
        raise DatabaseError(
            "The embedded PostgreSQL's socket finds no folder: the temporary folder's path is too long."
        )

    def _refuse_missing_tcp(self, found: Postmaster) -> None:
        if self._port is None or (found.listen_address and self._port in {0, found.port}):
            return
        raise DatabaseError(
            f"The embedded PostgreSQL in {self.data_directory} is already run by another process, and not on the "
            "TCP port that is asked for. Stop that process first, or do without the port."
        )

    async def _create_database(self, found: Postmaster) -> None:
        """Make our database, unless an earlier start did."""
        try:
            connection = await asyncpg.connect(
                host=found.socket_directory, port=found.port, user="postgres", database="postgres", timeout=10
            )
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
            raise _NotYet(
                f"The embedded PostgreSQL in {self.data_directory} (process {found.pid}) takes no connections: {error}"
            ) from error
        try:
            if await connection.fetchval("select 1 from pg_database where datname = $1", self.database) is None:
                name = '"' + self.database.replace('"', '""') + '"'
                await connection.execute(f"create database {name}")
        finally:
            await connection.close()

    async def _run(self, program: str, *arguments: str) -> None:
        code, printed = await self._tools.run(program, *arguments)
        if code != 0:
            raise DatabaseError(f"{program} failed in {self.data_directory}. It said:\n{printed[-2000:]}")


def _refuse_remnants(cluster: Path) -> None:
    if left := remnants(cluster):
        raise _NotYet(
            f"Processes of a killed PostgreSQL still work on {cluster}, and do not end: "
            f"{', '.join(map(str, left))}. End them first."
        )


async def end_abandoned(data_directory: Path) -> bool:
    """End the server that killed processes left in a data directory, as a crash; returns whether none is left.

    To be called only where nobody uses it any more.
    """
    cluster = data_directory / "cluster"
    found = read_postmaster(cluster)
    if found is None or not serves(found.pid, cluster):
        return True
    if found.pid not in remnants(cluster):
        return False  # the number may be another process's by now: only where their folders show can that be told
    with contextlib.suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGQUIT)
    try:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_NotYet),
            stop=tenacity.stop_after_delay(ABANDONED_SECONDS),
            wait=tenacity.wait_fixed(0.05),
            reraise=True,
        ):
            with attempt:
                _refuse_remnants(cluster)
    except _NotYet:
        return False
    shutil.rmtree(found.socket_directory, ignore_errors=True)
    return True


@asynccontextmanager
async def _exclusive(path: Path) -> AsyncIterator[None]:
    """Wait, without holding up the loop, until no other process holds `path`."""
    handle = await asyncio.to_thread(_lock, path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _lock(path: Path, kind: int) -> int:
    """Take a lock that the kernel gives back whatever happens to this process."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseError(
            f"The embedded PostgreSQL's data directory {path.parent} cannot be used: {path.name}: {error.strerror}. Run "
            "dispatcher as the user who made it, or choose another one."
        ) from error
    fcntl.flock(handle, kind)
    return handle


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
