"""Anthropic's memory tool over the service, with a scripted model instead of a key.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[anthropic]'`:

    python examples/frameworks/memory_tool.py
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

from luma_memory.integrations.anthropic import LumaMemoryTool

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")

# The tool calls of a model.
SCRIPT: list[dict[str, Any]] = [
    {"command": "create", "path": "/memories/ada.md", "file_text": "Ada lives in Lisbon.\n"},
    {
        "command": "str_replace",
        "path": "/memories/ada.md",
        "old_str": "Lisbon",
        "new_str": "Porto",
    },
    {"command": "view", "path": "/memories/ada.md"},
]


def main() -> None:
    tool = LumaMemoryTool(URL, user_id=f"example-{uuid4()}")
    for command in SCRIPT:
        print(tool.call(command))


if __name__ == "__main__":
    main()
