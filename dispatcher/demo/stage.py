"""Sets the demo up, on loopback and in a folder of its own, and takes all of it away again.

folder/
  config.toml      for the command line in another terminal
  dispatcher.log   what the service says
  running.lock     held while it runs
  data/            the embedded PostgreSQL's
"""

import json
import secrets as entropy
import shlex
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, Final

from dispatcher import logs
from dispatcher.admin import Admin
from dispatcher.app import ROLES, make_api_app, make_ops_app, open_admin
from dispatcher.clock import Clock
from dispatcher.configuration import load
from dispatcher.demo import mailbox as mail
from dispatcher.demo import receiver as web
from dispatcher.demo.leftovers import DATA, demo_folder, sweep
from dispatcher.demo.mailbox import Mailbox
from dispatcher.demo.receiver import Receiver
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.metrics import Metrics
from dispatcher.model import SHARD_COUNT
from dispatcher.settings import Settings
from dispatcher.store import migrate
from dispatcher.store.pool import connect
from dispatcher.worker import Worker, open_worker_pool

GRACE: Final = 2.0
"""Seconds for requests in flight at the end: the receiver answers at once."""

OPERATOR: Final = "demo"
"""Who may sign in to the demo's console."""

PASSWORD_BYTES: Final = 12
"""Of chance in the password, which is printed and dies with the demo."""

THROWAWAY: Final = MappingProxyType({"fsync": "off", "full_page_writes": "off"})
"""Of the server, whose data are removed in the end."""

CONFIG: Final = """\
# Made by `dispatcher demo`, and removed by it in the end.

[database]
url = {url}

[api]
listen = {api}

[ops]
listen = {ops}
console_url = {console}

[egress]
# the sample receiver is on this machine, and has no certificate
https_only = false
allow_subnets = ["127.0.0.0/8", "::1/128"]

[retry]
jitter = 0

[smtp]
host = {mail_host}
port = {mail_port}
sender = "Webhooks <dispatcher@demo.example>"

[notices]
digest_every = "5s"

[log]
format = "json"
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """All that stands when the curtain rises."""

    folder: Path
    config: Path
    log: Path
    database_url: str
    """As the database's owner."""
    application_url: str
    """As the role `application`, once there is one."""
    postgres_version: str
    migrations: int
    receiver: Receiver
    receiver_url: str
    mailbox: Mailbox
    mail_address: str
    ops_url: str
    console_password: str
    """Of the operator `OPERATOR`."""
    api_url: str
    admin: Admin
    owner: Any
    """A connection as the database's owner."""
    metrics: Metrics

    @property
    def owns_all_shards(self) -> bool:
        """True once the worker has taken over all of the work."""
        return self.metrics.registry.get_sample_value("dispatcher_shards_owned") == SHARD_COUNT


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Set up; all is removed at the end. Raises the errors of `DispatcherError`."""
    async with AsyncExitStack() as stack:
        await sweep()
        folder = stack.enter_context(demo_folder())
        log = folder / "dispatcher.log"
        logs.configure(format="json", level="info", stream=stack.enter_context(log.open("w", encoding="utf-8")))
        receiver, mailbox = Receiver(), Mailbox()
        web_socket, mail_socket, ops_socket, api_socket = (stack.enter_context(_listen()) for _ in range(4))
        await stack.enter_async_context(web.receiving(receiver, web_socket))
        await stack.enter_async_context(mail.receiving(mailbox, mail_socket))
        server = await stack.enter_async_context(EmbeddedPostgres(folder / DATA, settings=THROWAWAY))
        config = _write_config(
            folder,
            server.url,
            ops=_address(ops_socket),
            api=_address(api_socket),
            mail_port=mail_socket.getsockname()[1],
        )
        settings = load(config, {})
        owner = await connect(server.url, application_name="dispatcher demo")
        stack.push_async_callback(owner.close)
        migrations = await migrate.apply(owner)
        metrics = Metrics()
        worker = await stack.enter_async_context(_working(settings, server.url, metrics))
        admin = await stack.enter_async_context(open_admin(settings))
        await admin.create_operator(OPERATOR, password := entropy.token_urlsafe(PASSWORD_BYTES))
        console = make_ops_app(settings, server.url, admin, render=metrics.render, ready=worker.checks)
        await stack.enter_async_context(web.serving(console, ops_socket))
        await stack.enter_async_context(web.serving(make_api_app(settings, admin), api_socket))
        yield Stage(
            folder=folder,
            config=config,
            log=log,
            database_url=server.url,
            application_url=server.url.replace("//postgres@", "//application@", 1),
            postgres_version=await owner.fetchval("select split_part(current_setting('server_version'), ' ', 1)"),
            migrations=len(migrations),
            receiver=receiver,
            receiver_url=f"http://{_address(web_socket)}",
            mailbox=mailbox,
            mail_address=_address(mail_socket),
            ops_url=f"http://{_address(ops_socket)}",
            console_password=password,
            api_url=f"http://{_address(api_socket)}",
            admin=admin,
            owner=owner,
            metrics=metrics,
        )


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def _write_config(folder: Path, url: str, *, ops: str, api: str, mail_port: int) -> Path:
    config = folder / "config.toml"
    config.touch(mode=0o600)
    values = {
        "url": url,
        "ops": ops,
        "console": f"http://{ops}",
        "api": api,
        "mail_host": "127.0.0.1",
        "mail_port": mail_port,
    }
    config.write_text(CONFIG.format_map({name: json.dumps(value) for name, value in values.items()}))
    return config


@asynccontextmanager
async def _working(settings: Settings, url: str, metrics: Metrics) -> AsyncIterator[Worker]:
    """Run a worker, as `dispatcher serve` does, and drain it."""
    pool = await open_worker_pool(settings, url)
    try:
        random = Random()  # noqa: S311 - jitter is no secret
        worker = Worker(settings, url, pool, roles=ROLES, metrics=metrics, clock=Clock(), random=random)
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop(grace=GRACE)
    finally:
        pool.terminate()


def program() -> tuple[str, str | None]:
    """How to call the command line in another terminal, and the folder to put on its PATH first, if that is needed."""
    called = Path(sys.argv[0])
    if called.name != "dispatcher":
        return f"{shlex.quote(sys.executable)} -m dispatcher", None
    found = shutil.which("dispatcher")
    if found is not None and Path(found).absolute() == called.absolute():
        return "dispatcher", None
    return "dispatcher", str(called.absolute().parent)
