"""The embedded server: made, shared, adopted, recovered, refused; as root and as an ordinary user."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import uvloop

from dispatcher import binaries, postmaster
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.errors import ConfigError, DatabaseError
from support import postgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that does not exist yet."""
    with postgres.data_directory() as path:
        yield path


@pytest.fixture
def programs(pytestconfig: pytest.Config) -> Path | None:
    """The programs that this session tests."""
    return postgres.choose_bin_directory(pytestconfig.getoption("--postgres"))


@pytest.fixture
def server(folder: Path, programs: Path | None) -> EmbeddedPostgres:
    """A server that is not started yet."""
    return EmbeddedPostgres(folder, bin_directory=programs, settings=postgres.FAST)


def another(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """The same data directory, as another process sees it."""
    return EmbeddedPostgres(
        server.data_directory, bin_directory=server._given_bin_directory, settings=postgres.FAST, port=server._port
    )


async def ask(url: str, query: str) -> object:
    """One value, by a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_server_comes_up_in_an_empty_directory_and_goes(server: EmbeddedPostgres) -> None:
    """It has our database and no TCP port; afterwards no process and no socket is left."""
    async with server:
        pid, sockets = server.pid, server.socket.parent

        assert await ask(server.url, "select current_database()") == "dispatcher"
        assert await ask(server.url, "show listen_addresses") == ""

    assert not postmaster.serves(pid, server.cluster)
    assert postmaster.remnants(server.cluster) == []
    assert not sockets.exists()


def test_a_server_starts_under_uvloop_too(server: EmbeddedPostgres) -> None:
    """Whose subprocesses cannot change the user, as root's must."""

    async def version() -> object:
        async with server:
            return await ask(server.url, "show server_version")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(version())


async def test_data_and_url_outlast_a_restart(server: EmbeddedPostgres) -> None:
    """A second start finds what the first one wrote, at the same place."""
    async with server:
        url = server.url
        await ask(url, "create table kept as select 7 as number")

    async with another(server) as again:
        assert again.url == url
        assert await ask(url, "select number from kept") == 7


async def test_tcp_needs_the_password(server: EmbeddedPostgres) -> None:
    """By TCP nobody of the machine gets in without it."""
    tcp = EmbeddedPostgres(
        server.data_directory, bin_directory=server._given_bin_directory, settings=postgres.FAST, port=0
    )
    async with tcp:
        assert await ask(tcp.tcp_url, "select 1") == 1

        password = (tcp.data_directory / "password").read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(tcp.tcp_url.replace(password, "guess"), "select 1")


async def test_two_servers_with_data_directories_of_their_own_do_not_meet(
    server: EmbeddedPostgres, programs: Path | None
) -> None:
    """Each has its socket and its data."""
    with postgres.data_directory() as elsewhere:
        async with server, EmbeddedPostgres(elsewhere, bin_directory=programs, settings=postgres.FAST) as other:
            await ask(server.url, "create table mine ()")

            assert server.url != other.url
            assert await ask(other.url, "select to_regclass('mine')") is None


async def test_processes_that_start_at_once_share_one_server_until_the_last_goes(server: EmbeddedPostgres) -> None:
    """One starts it, the others join, and nobody takes it away from another."""
    servers = [server, another(server), another(server)]

    await asyncio.gather(*(each.start() for each in servers))
    pids = {each.pid for each in servers}
    await servers[0].stop()
    await servers[1].stop()
    answer = await ask(servers[2].url, "select 1")
    await servers[2].stop()

    assert len(pids) == 1
    assert answer == 1
    assert not postmaster.serves(pids.pop(), server.cluster)


async def test_a_server_that_was_left_behind_is_adopted(server: EmbeddedPostgres) -> None:
    """After kill -9 of its process the server lives on; the next process takes it over, and stops it in the end."""
    await server.start()
    pid = server.pid
    server.abandon()

    async with another(server) as heir:
        adopted = heir.pid

    assert adopted == pid
    assert not postmaster.serves(pid, server.cluster)


@pytest.mark.parametrize("how", ["crash", "kill"])
async def test_committed_data_outlasts_a_crash(server: EmbeddedPostgres, how: str) -> None:
    """After an immediate shutdown, or kill -9 of the server, a start recovers what was committed, at the same URL."""
    await server.start()
    url = server.url
    await ask(url, "create table kept as select 7 as number")
    if how == "crash":
        await server.crash()
    else:
        server.kill()

    async with server:
        assert server.url == url
        assert await ask(url, "select number from kept") == 7


async def test_a_pid_file_whose_number_is_another_process_by_now_is_no_obstacle(server: EmbeddedPostgres) -> None:
    """As after a reboot, or in a fresh container on an old volume."""
    async with server:
        pid_file = server.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))

    async with server:
        assert server.pid != os.getpid()


async def test_a_data_directory_of_another_major_version_is_refused(server: EmbeddedPostgres) -> None:
    """With both versions named, and what to do."""
    async with server:
        pass
    (server.cluster / "PG_VERSION").write_text("9\n")

    with pytest.raises(DatabaseError, match=r"was made by PostgreSQL 9, but the programs in .* are PostgreSQL \d\d"):
        await server.start()


async def test_a_server_that_does_not_start_shows_its_own_words(folder: Path, programs: Path | None) -> None:
    """The reason is in the log; the message quotes it."""
    server = EmbeddedPostgres(folder, bin_directory=programs, settings={**postgres.FAST, "shared_buffers": "many"})

    with pytest.raises(DatabaseError, match='invalid value for parameter "shared_buffers": "many"'):
        await server.start()

    assert postmaster.remnants(server.cluster) == []


async def test_a_folder_without_programs_is_refused(folder: Path, tmp_path: Path) -> None:
    """The message names the folder."""
    with pytest.raises(ConfigError, match="holds no PostgreSQL server"):
        await EmbeddedPostgres(folder, bin_directory=tmp_path).start()


def test_without_the_wheel_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or which setting to set."""
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")

    with pytest.raises(ConfigError, match=r"`\[database\] url` is not set.*pip install 'dispatcher\[embedded\]'"):
        binaries.wheel_bin_directory()


async def test_a_cancelled_start_leaves_no_server(server: EmbeddedPostgres) -> None:
    """Ctrl-C in the first second is a common thing."""
    starting = asyncio.create_task(server.start())
    while not (server.cluster / "postmaster.pid").exists():  # noqa: ASYNC110, nothing tells of it but the file
        await asyncio.sleep(0)
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting

    assert postmaster.remnants(server.cluster) == []


@as_root
async def test_root_runs_the_server_as_another_user(server: EmbeddedPostgres) -> None:
    """PostgreSQL refuses root."""
    async with server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@as_root
async def test_programs_out_of_reach_are_copied(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the virtual environment lies below /root; pytest's folder is as closed."""
    tmp_path.chmod(0o700)
    closed = binaries.copy_wheel(binaries.wheel_bin_directory(), tmp_path)
    monkeypatch.setattr(binaries, "wheel_bin_directory", lambda: closed)

    async with EmbeddedPostgres(folder, settings=postgres.FAST) as server:
        assert server._tools.folder.is_relative_to(folder)
        assert await ask(server.url, "select 1") == 1


@as_root
async def test_everything_out_of_reach_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when root has a clone in his home: the folders above stay closed, and a crash is recovered from."""
    tmp_path.chmod(0o700)
    closed = binaries.copy_wheel(binaries.wheel_bin_directory(), tmp_path)
    monkeypatch.setattr(binaries, "wheel_bin_directory", lambda: closed)

    with postgres.data_directory() as cache:
        monkeypatch.setattr(binaries, "CACHE", cache)
        server = EmbeddedPostgres(tmp_path / "data", settings=postgres.FAST)
        async with server:
            await ask(server.url, "create table kept as select 7 as number")
            await server.crash()
            await server.start()
            heir = another(server)
            await heir.start()
            server.abandon()

            assert await ask(heir.url, "select number from kept") == 7
            await heir.stop()

    assert postmaster.remnants(server.cluster) == []
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@as_root
async def test_an_ordinary_user_needs_no_rights(folder: Path, programs: Path | None) -> None:
    """The whole of it, in a process of the user nobody, which cannot write anywhere but there."""
    script = (
        "import asyncio, pathlib, sys\n"
        "from dispatcher.embedded import EmbeddedPostgres\n"
        "async def main():\n"
        "    programs = pathlib.Path(sys.argv[2]) if sys.argv[2:] else None\n"
        "    async with EmbeddedPostgres(pathlib.Path(sys.argv[1]), bin_directory=programs) as server:\n"
        "        print(server.url)\n"
        "asyncio.run(main())\n"
    )
    if (
        subprocess.run([shutil.which("test") or "test", "-x", sys.executable], user="nobody", check=False).returncode
        != 0
    ):
        pytest.skip("this interpreter is closed to other users")
    home = folder.parent / "home"
    home.mkdir()
    shutil.chown(home, "nobody")

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(home / "deep" / ("x" * 120)), *([str(programs)] if programs else [])),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        user="nobody",
        extra_groups=[],
        cwd=home,
        env={**os.environ, "HOME": str(home)},
    )
    printed, _ = await process.communicate()

    assert process.returncode == 0, printed.decode()
    assert printed.decode().startswith("postgresql://postgres@/dispatcher?host=")
