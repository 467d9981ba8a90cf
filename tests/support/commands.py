"""Run `luma-memory` commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RETRY_SECONDS = 120.0

COMMAND = [sys.executable, "-m", "luma_memory.cli"]
_FOREIGN = ("MEMORY_", "OPENAI_", "DATABASE_URL", "PG")


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of this process without the settings of the user who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    cache = os.environ.get("MEMORY_MODEL_CACHE_DIR")
    return kept | ({"MEMORY_MODEL_CACHE_DIR": cache} if cache else {}) | extra


def run(
    *arguments: str | Path, stdin: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=clean_environment(**environment),
        cwd=cwd,
        timeout=RETRY_SECONDS,
        check=False,
    )
