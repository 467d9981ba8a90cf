"""The TypeScript SDK, compiled where Node.js and its packages are installed."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from luma_memory.concurrency.file_lock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk" / "typescript"
SECONDS_MAX = 240
# Deno and Bun as packages of Node.js: make runtimes.
_PACKAGES = ROOT / "tests" / "runtimes" / "node_modules"
_PACKAGED = {"deno": "@deno/linux-x64-glibc/deno", "bun": "@oven/bun-linux-x64/bin/bun"}
# What runs the SDK, with the options before a program's name. It needs the network only.
RUNTIMES: Mapping[str, Sequence[str]] = {
    "node": (),
    "deno": ("run", "--quiet", "--allow-net"),
    "bun": (),
}


@dataclass(frozen=True)
class TypeScriptSdk:
    """The SDK's folder, with `dist`."""

    node: str
    folder: Path = SDK

    async def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        runtime: Sequence[str] | None = None,
    ) -> str:
        """What `node ARGUMENTS` prints. Raises AssertionError with its errors if it fails.

        runtime: the command of another JavaScript runtime.
        """
        command = [*(runtime or [self.node]), *arguments]
        return await asyncio.to_thread(run_node, *command, folder=self.folder, env=env)


def runtime_command(name: str) -> Sequence[str]:
    """The command of one of RUNTIMES; skips the test where it is not installed."""
    program = shutil.which(name)
    if program is None and name in _PACKAGED:
        program = shutil.which(_PACKAGES / _PACKAGED[name])
    if program is None:
        pytest.skip(f"{name} is not installed: make runtimes")
    return [program, *RUNTIMES[name]]


def run_node(
    node: str,
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    seconds_max: float = SECONDS_MAX,
) -> str:
    done = subprocess.run(
        [node, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds_max,
        check=False,
        env=env,
    )
    assert done.returncode == 0, f"{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout


def installed_node(folder: Path) -> str:
    """Node.js, if it and the folder's packages are installed; skips the test otherwise."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (folder / "node_modules").is_dir():
        pytest.skip("the packages of Node.js are not installed: make node-packages")
    return node


def built_sdk() -> TypeScriptSdk:
    """Compiled again when a source has changed."""
    sdk = TypeScriptSdk(installed_node(SDK))
    sources = [SDK / "tsconfig.json", *sorted((SDK / "src").glob("*.ts"))]
    content = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    stamp = SDK / "dist" / ".sources"
    (ROOT / "build").mkdir(exist_ok=True)
    lock = FileLock(ROOT / "build" / "typescript-sdk.lock")
    assert lock.acquire(wait_seconds=SECONDS_MAX)
    try:
        if not stamp.is_file() or stamp.read_text() != content:
            run_node(sdk.node, "node_modules/typescript/bin/tsc", folder=SDK)
            stamp.write_text(content)
    finally:
        lock.release()
    return sdk
