"""Record a session of `luma-memory mcp` into docs/mcp.md; no model takes part.

One process stores, a second one recalls, with a service of their own in a temporary folder:

    .venv/bin/python -m tools.mcp_transcript
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import TextContent

from luma_memory.concurrency.file_lock import FileLock

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "mcp.md"
BEGIN: Final = "<!-- made by tools/mcp_transcript.py -->"
END: Final = "<!-- end of what is made -->"
_STOP_SECONDS: Final = 60
_FIRST: Final = (
    ("add_memory", {"content": "Ana moved to Lisbon in March and works from home on Fridays."}),
)
_SECOND: Final = (
    ("search_memories", {"query": "Where does Ana live now?", "limit": 3}),
    ("get_context", {"query": "Can Ana take a parcel on Friday?"}),
)


def with_transcript(page: str, transcript: str) -> str:
    """The page with its generated part replaced."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{transcript}\n{END}{rest.partition(END)[2]}"


async def recorded() -> str:
    """The calls and results of two sessions, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        parts = [
            await _session("First session", data_dir, _FIRST),
            await _session("Second session", data_dir, _SECOND),
        ]
        # The service stops by itself; its folder must not be removed before.
        await asyncio.to_thread(
            FileLock(data_dir / ".mcp-service").acquire, wait_seconds=_STOP_SECONDS
        )
    return "\n".join(parts)


async def _session(
    title: str, data_dir: Path, calls: tuple[tuple[str, Mapping[str, Any]], ...]
) -> str:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "luma_memory.cli", "mcp"],
        env={**os.environ, "MEMORY_DATA_DIR": str(data_dir), "MEMORY_MCP_IDLE_SECONDS": "2"},
    )
    lines = [f"**{title}**", ""]
    async with Client(stdio_client(parameters)) as client:
        for tool, arguments in calls:
            result = await client.call_tool(tool, dict(arguments))
            text = next(item.text for item in result.content if isinstance(item, TextContent))
            call = json.dumps(arguments, ensure_ascii=False)
            lines += ["```text", f"→ {tool} {call}", f"← {_wrapped(text)}", "```", ""]
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_transcript(page, asyncio.run(recorded())), encoding="utf-8")


if __name__ == "__main__":
    main()
