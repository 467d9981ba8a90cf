"""mem0's clients from their packages, and what goes through them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service

from luma_memory.domain.access import EVERY_PERMISSION

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENVIRONMENT = Path(os.environ["MEMORY_INTEGRATIONS"])
PROGRAMS = Path(__file__).parent / "programs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(tmp_path_factory.mktemp("mem0") / "data") as door:
        yield door


async def run(door: KeyedService, *command: str, home: Path) -> None:
    """Run a program that prints `ok` once all that it asserts was true."""
    key = await door.key(*EVERY_PERMISSION)
    # They keep an id of the machine in the home folder, and report their use unless told not to.
    environment = {
        **os.environ,
        "HOME": str(home),
        "MEM0_DIR": str(home / "mem0"),
        "MEM0_TELEMETRY": "false",
        "HAYSTACK_TELEMETRY_ENABLED": "false",
    }
    ended = await asyncio.to_thread(
        lambda: subprocess.run(
            [*command, door.stack.base_url, key],
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
            check=False,
        )
    )
    assert ended.returncode == 0, ended.stdout[-2_000:] + ended.stderr[-6_000:]
    assert ended.stdout.endswith("ok\n"), ended.stdout


@pytest.mark.parametrize("program", ["mem0_python.py", "mem0_adapters.py"])
async def test_a_python_program_runs(door: KeyedService, tmp_path: Path, program: str) -> None:
    python = ENVIRONMENT / "python" / "bin" / "python"
    await run(door, str(python), "-P", str(PROGRAMS / program), home=tmp_path)


async def test_the_typescript_client_and_the_provider_run(
    door: KeyedService, tmp_path: Path
) -> None:
    node = shutil.which("node")
    assert node is not None, "install Node 20 or newer"
    # Packages are found from the program's own folder upwards.
    program = ENVIRONMENT / "node" / "mem0_typescript.mjs"
    shutil.copyfile(PROGRAMS / "mem0_typescript.mjs", program)
    await run(door, node, str(program), home=tmp_path)
