"""Sweeps up after demos that were killed with -9: each left a folder, and a PostgreSQL in it that nobody would ever stop.

A demo holds a lock in its folder, which the kernel gives back however it ends; a folder whose lock is free has no demo.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dispatcher.embedded import end_abandoned

PREFIX: Final = "dispatcher-demo-"

LOCK: Final = "running.lock"

DATA: Final = "data"
"""Where in the folder the embedded PostgreSQL is."""


@contextmanager
def demo_folder() -> Iterator[Path]:
    """Make a folder and remove it. Others may pass through to what is theirs: root's PostgreSQL runs as another user."""
    # under its own name only once it is locked: a demo that begins now must not take it for a dead one's
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    lock = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


async def sweep() -> int:
    """Remove what this user's dead demos left behind; returns how many there were."""
    swept = 0
    for folder in _folders():
        with _abandoned(folder) as is_abandoned:
            if is_abandoned and await end_abandoned(folder / DATA):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
    return swept


def _folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Tell whether a folder is this user's and has no demo any more; nobody else sweeps it meanwhile."""
    lock = _try_lock(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Take a folder's lock; None: it is somebody else's, in use, not made yet, or gone."""
    try:
        if folder.lstat().st_uid != os.geteuid():
            return None
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
