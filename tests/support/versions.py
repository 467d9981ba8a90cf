"""An earlier version of the software, from the repository's own history."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import clean_environment

from luma_memory.cli.child import Child, LineSink
from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.cli.processes import STOP_GRACE_SECONDS
from luma_memory.postgres.migrator import migration_names
from luma_memory.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = "src/luma_memory/migrations"


def _git(*arguments: str) -> bytes:
    """Raises OSError or subprocess.CalledProcessError."""
    # A checkout may belong to another user than the one who tests it, as in containers.
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def version_before_the_newest_migration(folder: Path) -> Path:
    """The source of the last version without it, to be put first on PYTHONPATH.

    Skips the test where there is no history: a source archive, a shallow clone.
    """
    newest = f"{MIGRATIONS}/{migration_names()[-1]}.sql"
    try:
        added = _git("log", "--diff-filter=A", "--format=%H", "--", newest).decode().split()
        archive = _git("archive", f"{added[-1]}^", "src")
    except (OSError, subprocess.CalledProcessError, IndexError):
        pytest.skip(
            f"the history has no version before {newest}; in a shallow clone: git fetch --unshallow"
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            files.extractall(folder, filter="data")
        else:
            files.extractall(folder)
    return folder / "src"


async def run_of(source: Path | None, *arguments: str, **environment: str) -> str:
    """What a command of that version prints; of this one for None. Raises AssertionError."""
    process = await asyncio.create_subprocess_exec(
        *(*python_arguments("luma_memory.cli"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(**environment, **_path(source)),
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@asynccontextmanager
async def process_of(
    source: Path | None, module: str, *, name: str, sink: LineSink, **settings: Any
) -> AsyncIterator[Child]:
    """A process of that version, of this one for None; stopped at the end, if it still runs."""
    environment = settings_environment(
        Settings(**settings), base=clean_environment(**_path(source))
    )
    child = await Child.start(name, python_arguments(module), environment, sink)
    try:
        yield child
    finally:
        await child.stop(grace_seconds=STOP_GRACE_SECONDS)


def _path(source: Path | None) -> dict[str, str]:
    return {} if source is None else {"PYTHONPATH": str(source)}
