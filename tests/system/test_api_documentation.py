"""What docs/api.md shows is what happens: each of its curl lines is run against a service."""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatcher.api.app import OPERATIONS
from support.admin import open_admin
from support.receiver import Receiver
from support.serving import serving

pytestmark = [pytest.mark.system, pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"

BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```sh\n(.*?)```", re.DOTALL)
"""A block of commands, and the remark above it."""

WITHOUT_CURL = 2
"""Blocks for operators and for setting up, which the test does in its own way."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some commands of the document."""

    remark: str
    commands: str

    @property
    def status(self) -> str:
        """What its answer is shown with, if it is a problem."""
        return self.remark.removeprefix("fails with ") if self.remark.startswith("fails") else ""


def blocks() -> Sequence[Block]:
    """Return the blocks that call the API."""
    found = [Block(*match) for match in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))]
    calling = [block for block in found if "curl" in block.commands]
    assert len(found) - len(calling) == WITHOUT_CURL
    return calling


async def run(block: Block, variables: Mapping[str, str], folder: Path) -> str:
    """Run a block as a shell does, and return what its last command printed."""
    # each command on a line of its own in the output; those that fail end it
    script = "set -e\n" + re.sub(r"^curl ", "echo; curl ", block.commands, flags=re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script), cwd=folder, env=dict(variables), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{block.commands}\n{out.decode()}\n{err.decode()}"
    return out.decode().splitlines()[-1]


def remembered(block: Block, answer: str) -> dict[str, str]:
    """Return the variable that the remark speaks of, `EVENT is its id`."""
    name, _, what = block.remark.partition(" is ")
    if not what:
        return {}
    body = json.loads(answer)
    return {name: str(body["deliveryAttempts"][0]["id"] if "first" in what else body["id"])}


async def test_every_curl_line_works(database: str, tmp_path: Path) -> None:
    """One after the other, with the ids that the answers give; only the receiver is another one."""
    async with open_admin(database) as admin, Receiver() as receiver, serving(database) as process:
        await admin.create_tenant("acme")
        key = (await admin.create_key("acme")).key
        (tmp_path / "headers").write_text(f"TENANT: acme\nAPI-KEY: {key}\nContent-Type: application/json\n")
        url = (await process.says("api.listening"))["address"]
        variables = {"URL": url, "PATH": "/usr/bin:/bin:/usr/local/bin"}

        for block in blocks():
            local = block.commands.replace("https://example.com", receiver.url)
            answer = await run(Block(block.remark, local), variables, tmp_path)
            variables |= remembered(block, answer)
            if block.status:
                assert json.loads(answer)["status"] == int(block.status)
        assert variables.keys() >= {"WEBHOOK", "EVENT", "ATTEMPT", "REPLAY"}


async def test_the_document_calls_every_operation() -> None:
    """None is without an example."""
    text = re.sub(r"\$(WEBHOOK|EVENT|ATTEMPT|REPLAY)", "{id}", "\n".join(block.commands for block in blocks()))
    called = set(re.findall(r'"\$URL([^"?]+)', text))

    assert {operation.path for operation in OPERATIONS} <= called
