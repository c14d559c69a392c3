"""A PgBouncer in transaction mode before a test's server, where the machine has one."""

import asyncio
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dispatcher.embedded import EmbeddedPostgres
from support.world import until

FOLDERS = (None, "/usr/sbin:/usr/local/sbin")
"""Where to look: Debian puts it where only root's PATH leads."""

SERVER_CONNECTIONS = 4
"""Fewer than the clients want, so that they must share."""


def program() -> str | None:
    """The program; None if the machine has none (Debian: `apt-get install pgbouncer`)."""
    return next((found for path in FOLDERS if (found := shutil.which("pgbouncer", path=path))), None)


@asynccontextmanager
async def pooling(server: EmbeddedPostgres, database: str) -> AsyncIterator[str]:
    """Run one for as long as the block lasts; gives the URL of `database` through it."""
    found = program()
    assert found is not None
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="dispatcher-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"""
            [databases]
            * = host={server.socket.parent} port={server.socket.suffix.removeprefix(".")} user=postgres
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = {SERVER_CONNECTIONS}
            max_client_conn = 200
            """.replace("            ", "")
        )
        process = await asyncio.create_subprocess_exec(
            *(found, "-q", str(configuration)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            user=_user(server) if os.geteuid() == 0 else None,  # it refuses to be root's
        )
        try:
            await until(lambda: _accepts(port), why="PgBouncer")
            yield f"postgresql://postgres@127.0.0.1:{port}/{database}"
        finally:
            process.kill()
            await process.wait()


def _user(server: EmbeddedPostgres) -> str:
    """Whom the server's socket belongs to: nobody else gets at it."""
    return pwd.getpwuid(server.socket.stat().st_uid).pw_name


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
