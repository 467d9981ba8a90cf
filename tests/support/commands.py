"""Run `luma-memory` commands, as processes of their own or in this process."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from luma_memory.cli.main import main

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


def run_here(
    *arguments: str | Path, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """As `run`, without the seconds that a new interpreter takes to import everything.

    For tests that are no coroutines: commands run event loops of their own.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in ("out", "error")]
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    code: object = 0
    with (
        mock.patch.dict(os.environ, clean_environment(**environment), clear=True),
        mock.patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code or 0
    printed = [_content(stream) for stream in streams]
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, *printed)


def _content(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
