"""deploy/'s unit, image and compose file: well-formed, hardened, and in keeping with what the service does.

No image is built here, for that needs a registry. What the Dockerfile copies is made into a wheel and used, and what it
runs to see whether the service lives is run against one that does.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from dispatcher import worker
from dispatcher.app import CLOSE_SECONDS
from dispatcher.configuration import load
from dispatcher.errors import CatalogError, ConfigError, DatabaseError
from dispatcher.retry import parse_duration
from dispatcher.settings import Settings
from support.serving import serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMA = Path(__file__).parents[1] / "support" / "schemas" / "compose-spec.json"

EXPOSURE = 20
"""Tenths, as `systemd-analyze security` counts: 10.0 is a unit without any protection, below 2.0 it says OK."""

NEEDED = Settings().delivery.grace + worker.STOP_SECONDS + 2 * CLOSE_SECONDS
"""Seconds that an orderly end may take: what is in flight, then what is left to write, then the connections."""

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def unit() -> Mapping[str, list[str]]:
    """The settings of the unit's [Service], each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "dispatcher.service").read_text().partition("[Service]")[2].splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order, long lines made whole."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def copied() -> list[str]:
    """What the Dockerfile takes from the source tree."""
    copies = [rest.split() for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    return [source.rstrip("/") for words in copies for source in words[:-1]]


# the unit


def systemd_analyze(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call systemd's own judge."""
    return subprocess.run(
        ["systemd-analyze", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="no systemd-analyze on this machine (Debian: apt-get install systemd)",
)


@systemd
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """No setting is unknown or wrong."""
    program = unit()["ExecStart"][0].split()[0]
    text = (DEPLOY / "dispatcher.service").read_text().replace(program, sys.executable)
    (tmp_path / "dispatcher.service").write_text(text)

    done = systemd_analyze("verify", "--man=no", "./dispatcher.service", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


@systemd
def test_the_unit_is_locked_up() -> None:
    """Little is left open to somebody who takes the process over."""
    done = systemd_analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "dispatcher.service", cwd=DEPLOY)

    assert done.returncode == 0, done.stdout


def test_the_unit_lets_the_service_end_in_order() -> None:
    """It waits for what is in flight, and only the first process gets the signal: a second signal forces."""
    assert parse_duration(unit()["TimeoutStopSec"][0]) > NEEDED + 10
    assert unit()["KillMode"] == ["mixed"]


def test_the_unit_starts_again_what_that_can_mend() -> None:
    """A database that is away comes back; a wrong configuration or catalogue does not mend itself."""
    never = {int(code) for code in unit()["RestartPreventExitStatus"][0].split()}

    assert unit()["Restart"] == ["always"]
    assert never == {ConfigError.exit_code, CatalogError.exit_code}
    assert DatabaseError.exit_code not in never


# the image


@pytest.mark.skipif(not HADOLINT.exists(), reason="no hadolint for this machine (it comes with '.[dev]' on Linux)")
def test_the_dockerfile_is_well_formed() -> None:
    """Hadolint, which parses it and knows what goes wrong with images, finds nothing."""
    done = subprocess.run(
        [HADOLINT, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular() -> None:
    """A numeric user other than root, and all that is copied over to where it runs comes from the build stage."""
    last = instructions()[[word for word, _ in instructions()].index("FROM", 2) :]

    assert re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", dict(last)["USER"])
    assert all(rest.startswith("--from=build") for word, rest in last if word == "COPY")


def test_the_image_is_given_what_it_copies() -> None:
    """What the Dockerfile copies is there and not ignored; what is secret or of no use is ignored."""
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()

    def given(path: str) -> bool:
        kept = True
        for rule in rules:
            if rule and not rule.startswith("#") and fnmatch(path, rule.removeprefix("!")):
                kept = rule.startswith("!")
        return kept

    assert all((ROOT / path).exists() and given(path) for path in copied())
    assert not any(given(path) for path in ("config.toml", "deploy", "tests", ".git", ".venv"))


def test_what_the_image_copies_is_enough(tmp_path: Path, database: str) -> None:
    """A wheel made of that alone has all that the service needs: it says its release, and knows the migrations."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for path in copied():
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, source / path)

    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    lacking = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dispatcher").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not (installed / path.relative_to(ROOT)).exists()
    }
    check = subprocess.run(
        [sys.executable, "-m", "dispatcher", "migrate", "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "DISPATCHER_DATABASE__URL": database},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert lacking == set()
    assert (check.returncode, check.stdout) == (0, "The schema is up to date.\n")


@pytest.mark.system
async def test_health_checks_tell_life_from_death(database: str) -> None:
    """What image and compose file run as health checks succeeds with a service that is there, and else fails."""
    image = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])
    compose = COMPOSE["services"]["dispatcher"]["healthcheck"]["test"][1:]

    def run(command: Sequence[str], port: str) -> int:
        words = [sys.executable, *(word.replace(":8081", f":{port}") for word in command[1:])]
        return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode

    async with serving(database) as service:
        port = service.logged("ops.listening")[-1]["address"].rpartition(":")[2]
        living = [run(command, port) for command in (image, compose)]
        await service.terminate()
    gone = [run(command, port) for command in (image, compose)]

    assert living == [0, 0]
    assert 0 not in gone


# the compose file


def test_the_compose_file_keeps_to_the_specification() -> None:
    """Docker's own schema finds no fault."""
    schema = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))

    assert [error.message for error in schema.iter_errors(COMPOSE)] == []


def test_the_compose_file_shows_nothing_to_the_world() -> None:
    """Ports are published on this machine alone, and no secret stands in it."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "password:" not in (DEPLOY / "compose.yaml").read_text().replace("postgres-password:", "").lower()


def test_the_compose_file_lets_the_service_end_in_order() -> None:
    """It waits for what is in flight."""
    assert parse_duration(COMPOSE["services"]["dispatcher"]["stop_grace_period"]) > NEEDED + 10


# how it is told


def fenced(language: str) -> list[str]:
    """The blocks of a language in deploy/README.md."""
    text = (DEPLOY / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", fenced("toml"))
def test_the_shown_configuration_can_be_used(block: str, tmp_path: Path) -> None:
    """Every block of TOML in deploy/README.md is taken as it stands."""
    (tmp_path / "config.toml").write_text(block)

    settings = load(tmp_path / "config.toml", {})

    assert tomllib.loads(block).keys() <= set(settings.model_dump())


def test_the_readme_names_what_is_there() -> None:
    """Each file beside it is told of, and each link leads somewhere."""
    text = (DEPLOY / "README.md").read_text()
    links: list[Any] = re.findall(r"\]\(([^)#:]+)\)", text)

    assert links
    assert [link for link in links if not (DEPLOY / link).exists()] == []
    assert {path.name for path in DEPLOY.iterdir() if path.is_file() and path.name not in text} == {"README.md"}
