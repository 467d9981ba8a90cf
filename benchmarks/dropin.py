"""LangGraph's and mem0's interfaces of this service beside their own PostgreSQL stores."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.figures import Line, Target, WrongResultError
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack

ROOT: Final = Path(__file__).parents[1]
# The environment of requirements/comparison.txt.
PYTHON: Final = (
    Path(os.environ.get("MEMORY_COMPARISON", ROOT / ".integrations" / "comparison")) / "bin/python"
)
MISSING: Final = (
    "dropin needs LangGraph's PostgreSQL store and mem0's library:"
    " run `sh tools/integrations.sh comparison`, which installs them in .integrations"
)
_AHEAD: Final = Target(1.0, "low")


def is_installed() -> bool:
    """Whether the packages are there that this compares with."""
    return PYTHON.exists()


async def compare(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Both sides in one process, in turns, with the same local model. Raises WrongResultError."""
    if not is_installed():
        raise WrongResultError(MISSING)
    url = f"http://{stack.api.host}:{stack.api.port}"
    with tempfile.TemporaryDirectory(prefix="luma-memory-bench-") as folder:
        async with stack.worker():
            stores = await _run(
                "langgraph_stores",
                url,
                await _database(stack, "bench_langgraph"),
                *map(str, sizes.compared_items),
            )
            library = await _run(
                "mem0_library",
                url,
                await _database(stack, "bench_mem0"),
                str(sizes.compared_items[0]),
                folder,
            )
    await stack.clear()
    lines = []
    for size, found in stores.items():
        lines += _store_lines(int(size), found)
    return [*lines, *_library_lines(sizes.compared_items[0], library)]


def _store_lines(size: int, found: Mapping[str, Mapping[str, Any]]) -> list[Line]:
    store = "PostgresStore"
    _check_right(found["right"])
    return [
        _line(
            f"langgraph_abatch_{size}", f"abatch of 100 puts, {size:,} items",
            found, "abatch", store,
        ),
        _line(
            f"langgraph_embedded_{size}",
            f"the same until all are embedded, {size:,} items",
            found, "embedded", store, target=None,
        ),
        _line(f"langgraph_aget_{size}", f"aget, {size:,} items, p50", found, "aget", store),
        _line(
            f"langgraph_floor_{size}", "a bare HTTP exchange that reads nothing, p50",
            found, "floor", f"{store}'s aget", target=None,
        ),
        _line(
            f"langgraph_asearch_{size}", f"asearch, {size:,} items, p50", found, "asearch", store,
            note=_right(found["right"]),
        ),
    ]  # fmt: skip


def _library_lines(size: int, found: Mapping[str, Mapping[str, Any]]) -> list[Line]:
    _check_right(found["right"])
    return [
        _line("mem0_add", "mem0's client: add, infer=False, p50", found, "add", "mem0's library"),
        _line(
            "mem0_search", f"mem0's client: search, {size:,} memories, p50", found, "search",
            "mem0's library", note=_right(found["right"]),
        ),
    ]  # fmt: skip


def _line(
    key: str,
    what: str,
    found: Mapping[str, Mapping[str, Any]],
    name: str,
    other: str,
    *,
    target: Target | None = _AHEAD,
    note: str = "",
) -> Line:
    ours, theirs = found[name]["ours"], found[name]["theirs"]
    return Line(key, what, ours, "ms", theirs, other, ours / theirs, target, note)


def _right(right: Mapping[str, int]) -> str:
    return f"right first {right['ours']} of {right['of']}, theirs {right['theirs']}"


def _check_right(right: Mapping[str, int]) -> None:
    if right["ours"] < right["of"]:
        raise WrongResultError(f"not every question found its fact first: {_right(right)}")


async def _database(stack: Stack, name: str) -> str:
    """The address of a new database on the same server."""
    await stack.database.execute(f"DROP DATABASE IF EXISTS {name}")
    await stack.database.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return urlsplit(stack.dsn)._replace(path=f"/{name}").geturl()


async def _run(program: str, *arguments: str) -> dict[str, Any]:
    """What a program of `benchmarks.comparison` prints. Raises WrongResultError when it fails."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEM0_", "OPENAI_"))
    }
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", f"benchmarks.comparison.{program}", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env=environment | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "MEM0_TELEMETRY": "false",
            "MEM0_DIR": arguments[-1] if program == "mem0_library" else os.devnull,
        },
    )  # fmt: skip
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        raise WrongResultError(f"{program} failed: {errors.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
