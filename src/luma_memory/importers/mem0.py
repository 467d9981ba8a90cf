"""mem0's exports: `{"results": […]}`, `{"memories": […]}` or a plain list of memories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.json_streams import events, json_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import as_mapping, instant, name, parts

SOURCE: Final = "mem0"
_PREFIXES: Final = ("item", "results.item", "memories.item")


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The memories, in the file's order."""
    for document in bundle.documents:
        prefix = _prefix(document)
        number = 0
        with document.bytes() as stream:
            try:
                for number, memory in enumerate(json_items(stream, prefix), 1):
                    yield from _memory(as_mapping(memory), f"{document.name}: {number}", options)
            except ijson.JSONError as error:
                yield SkippedItem(f"{document.name}: after {number}", "malformed", problem(error))


def _prefix(document: Document) -> str:
    """The path of the list: the first of the three that exists in the document."""
    with document.bytes(counted=False) as stream:
        try:
            for prefix, event, _value in events(stream):
                if event == "start_array":
                    found = f"{prefix}.item" if prefix else "item"
                    if found in _PREFIXES:
                        return found
        except ijson.JSONError:
            pass
    return "item"


def _memory(memory: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[Item]:
    memory_id = name(memory.get("id"))
    text = memory.get("memory") or memory.get("text") or ""
    if memory_id is None or not isinstance(text, str) or not text.strip():
        yield SkippedItem(where, "malformed", "a memory without an id or a text")
        return
    categories = memory.get("categories")
    metadata = dict(as_mapping(memory.get("metadata")))
    if categories:
        metadata["categories"] = categories
    if updated := instant(memory.get("updated_at"), options.time_zone):
        metadata["updated_at"] = updated.isoformat()
    if app := name(memory.get("app_id")):
        metadata["app_id"] = app
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=f"{SOURCE}:{memory_id}{suffix}",
            content=piece,
            source=SOURCE,
            occurred_at=instant(memory.get("created_at"), options.time_zone),
            speaker=name(memory.get("actor_id")) or name(memory.get("role")),
            session_id=name(memory.get("run_id")),
            agent_id=name(memory.get("agent_id")),
            owner=name(memory.get("user_id")),
            metadata=metadata,
        )
