"""Text files as items, which the adapters for files share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

# The key of a file is its path. Folders are items, too.
FILES: Final = ("files",)
# What is searched of a file.
FILE_INDEX: Final = ("text",)


def file_value(text: str | None) -> dict[str, Any]:
    """The value of a file's item; None is a folder."""
    if text is None:
        return {"folder": True}
    # JSON of the service has no NUL; escaped it is ASCII.
    return {"escaped": json.dumps(text)} if "\x00" in text else {"text": text}


def file_text(value: Mapping[str, Any]) -> str | None:
    """The text of a file's item, None for a folder."""
    if value.get("folder"):
        return None
    text: str = json.loads(value["escaped"]) if "escaped" in value else value["text"]
    return text


def folder_operations(path: str) -> list[dict[str, Any]]:
    """Operations that make the folders above a path, where there are none."""
    parts = path.split("/")
    return [
        {
            "op": "put",
            "namespace": list(FILES),
            "key": "/".join(parts[:depth]),
            "value": file_value(None),
            "index": False,
            "if_absent": True,
        }
        for depth in range(1, len(parts))
    ]
