"""Write small exports of other systems and read them back as items."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luma_memory.importers.documents import open_bundle
from luma_memory.importers.formats import FORMATS, detect, read_items
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem


def write(path: Path, files: Mapping[str, object], *, zipped: bool = False) -> Path:
    """Files by name (texts, bytes or anything JSON holds) in a folder, or in a zip archive."""
    contents = {name: _bytes(content) for name, content in files.items()}
    if zipped:
        archive = path.with_suffix(".zip")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in contents.items():
                opened.writestr(name, content)
        return archive
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path if len(contents) > 1 else path / next(iter(contents))


def _bytes(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return text.encode()


def items(path: Path, options: ImportOptions | None = None, *, format_: str = "") -> list[Item]:
    """All items; the format is detected unless it is named."""
    options = options or ImportOptions()
    with open_bundle(path) as bundle:
        found = FORMATS[format_] if format_ else detect(bundle, options)
        return list(read_items(found, bundle, options))


def detected(path: Path, options: ImportOptions | None = None) -> str:
    with open_bundle(path) as bundle:
        return detect(bundle, options or ImportOptions()).name


def blocks(found: list[Item]) -> list[ImportedBlock]:
    return [item for item in found if isinstance(item, ImportedBlock)]


def skipped(found: list[Item]) -> list[tuple[str, str]]:
    """Reasons with their places."""
    return [(item.reason, item.where) for item in found if isinstance(item, SkippedItem)]


def reasons(found: list[Item]) -> list[str]:
    return [reason for reason, _ in skipped(found)]


def chatgpt_node(
    node_id: str, parent: str | None, *, role: str = "user", text: Any = "", **message: Any
) -> dict[str, Any]:
    """A node of a ChatGPT conversation, as the export has it."""
    parts = text if isinstance(text, list) else [text]
    body = {
        "id": node_id,
        "author": {"role": role},
        "create_time": 1_772_442_000.5,
        "content": {"content_type": "text", "parts": parts},
        "metadata": {},
        "recipient": "all",
    } | message
    return {"id": node_id, "parent": parent, "children": [], "message": body}


def chatgpt_conversation(*nodes: dict[str, Any], current: str, **facts: Any) -> dict[str, Any]:
    root: dict[str, Any] = {"id": "root", "parent": None, "children": [], "message": None}
    return {
        "id": "conversation-1",
        "title": "Boat repairs",
        "create_time": 1_772_442_000.0,
        "update_time": 1_772_442_900.0,
        "mapping": {node["id"]: node for node in (root, *nodes)},
        "current_node": current,
    } | facts
