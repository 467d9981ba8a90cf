"""`luma-memory import` beside a client that posts the same blocks, prepared before the clock.

Both send batches of 500, two at once, and are timed by the database: from the first stored batch to
the last, so that neither the start of an interpreter nor the first read counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.chat import Turn, turns
from benchmarks.client import closed_loop, connections, post
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.inputs import SESSION_TURNS
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, child_process
from luma_memory.importers.assignment import Assignment, groups
from luma_memory.importers.documents import open_bundle
from luma_memory.importers.formats import FORMATS
from luma_memory.importers.records import ImportOptions

BATCH: Final = 500
IN_FLIGHT: Final = 2
_FIRST_SECONDS: Final = 1_740_992_400  # 3 March 2025


async def rates(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """A ChatGPT export, in rounds that alternate with the bare client."""
    rounds = []
    with tempfile.TemporaryDirectory(prefix="luma-memory-bench-") as folder:
        for number in range(sizes.rounds + 1):
            path = Path(folder) / "conversations.json"
            _write(path, turns(sizes.imported, seed=60 + number), prefix=f"{number}")
            bodies = _bodies(path, f"bare-{number}")
            imported = await _imported(stack, path, f"imported-{number}", len(bodies))
            rounds.append(Round(imported, await _posted(stack, bodies, f"bare-{number}")))
            await stack.clear()
    return [
        compared(
            "import_chatgpt",
            "blocks imported from a ChatGPT export",
            rounds[1:],
            unit="/s",
            limit_name=f"POST /blocks/batch, {BATCH} a request, {IN_FLIGHT} at once",
            target=Target(0.8, "high"),
        )
    ]


async def _imported(stack: Stack, path: Path, user: str, count: int) -> float:
    url = f"http://{stack.api.host}:{stack.api.port}"
    arguments = ["import", str(path), "--user", user, "--url", url]
    async with child_process("import", "luma_memory.cli", stack.dsn, {}, arguments=arguments) as it:
        if await it.wait() != 0:
            raise WrongResultError(it.exit_report())
    return await _rate(stack, user, count)


async def _posted(stack: Stack, bodies: Sequence[dict[str, Any]], user: str) -> float:
    requests = [
        post("/blocks/batch", {"blocks": bodies[start : start + BATCH]})
        for start in range(0, len(bodies), BATCH)
    ]
    async with connections(stack.api, IN_FLIGHT) as clients:
        await closed_loop(clients, requests, 202)
    return await _rate(stack, user, len(bodies))


async def _rate(stack: Stack, user: str, count: int) -> float:
    (row,) = await stack.database.fetch(
        "SELECT count(*) AS stored, extract(epoch FROM max(created_at) - min(created_at))::float8"
        " AS seconds FROM memory_blocks WHERE user_id = $1",
        user,
    )
    if row["stored"] != count:
        raise WrongResultError(f"{row['stored']} of {count} blocks are stored")
    rate: float = (count - BATCH) / row["seconds"]
    return rate


def _bodies(path: Path, user: str) -> list[dict[str, Any]]:
    with open_bundle(path) as bundle:
        items = FORMATS["chatgpt"].read(bundle, ImportOptions())
        found = groups(items, Assignment(user, {}), title="", count_max=BATCH)
        return [body for group in found for body in group.bodies]


def _write(path: Path, some: Sequence[Turn], *, prefix: str) -> None:
    conversations = [
        _conversation(some[start : start + SESSION_TURNS], f"{prefix}-{start}", start)
        for start in range(0, len(some), SESSION_TURNS)
    ]
    path.write_text(json.dumps(conversations, ensure_ascii=False), encoding="utf-8")


def _conversation(some: Sequence[Turn], name: str, start: int) -> dict[str, Any]:
    root: dict[str, Any] = {"id": f"r-{name}", "parent": None, "children": [], "message": None}
    nodes, parent = {root["id"]: root}, root
    for number, turn in enumerate(some):
        node_id = f"m-{name}-{number}"
        message = {
            "id": node_id,
            "author": {"role": ("user", "assistant")[number % 2], "name": None, "metadata": {}},
            "create_time": _FIRST_SECONDS + 60.0 * (start + number),
            "update_time": None,
            "content": {"content_type": "text", "parts": [turn.content]},
            "status": "finished_successfully",
            "end_turn": True,
            "weight": 1.0,
            "metadata": {"timestamp_": "absolute", "parent_id": parent["id"]},
            "recipient": "all",
        }
        parent["children"].append(node_id)
        parent = {"id": node_id, "parent": parent["id"], "children": [], "message": message}
        nodes[node_id] = parent
    return {
        "title": f"Conversation {name}",
        "create_time": float(_FIRST_SECONDS + 60 * start),
        "update_time": float(_FIRST_SECONDS + 60 * (start + len(some))),
        "mapping": nodes,
        "current_node": parent["id"],
        "id": f"c-{name}",
    }
