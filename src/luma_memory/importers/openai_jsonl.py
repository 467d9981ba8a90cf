"""JSON lines with `{"messages": [{"role", "content"}]}`, as fine-tuning and batch files have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from luma_memory.importers.documents import Bundle, bounded_lines
from luma_memory.importers.json_streams import problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, as_list, as_mapping, instant, name, parts

SOURCE: Final = "openai-jsonl"
_SPOKEN: Final = ("user", "assistant")


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The messages of each line; a line is a session. The format has no times."""
    ids = ContentIds(SOURCE)
    for document in bundle.documents:
        with document.bytes() as lines:
            for number, line in bounded_lines(lines):
                where = f"{document.name}: line {number}"
                if line is None:
                    yield SkippedItem(where, "too_long", "a line of more than four million bytes")
                    continue
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield SkippedItem(where, "malformed", problem(error))
                    continue
                yield from _conversation(as_mapping(value), ids.of(line), where, options)


def _conversation(
    value: Mapping[str, Any], session: str, where: str, options: ImportOptions
) -> Iterator[Item]:
    messages = value.get("messages")
    if messages is None:
        messages = as_mapping(value.get("body")).get("messages")  # a batch request
    if not isinstance(messages, list):
        yield SkippedItem(where, "malformed", "a line without messages")
        return
    for number, entry in enumerate(messages, 1):
        message = as_mapping(entry)
        place = f"{where}: message {number}"
        role = message.get("role")
        text = _words(message.get("content"))
        if role not in _SPOKEN:
            known = ("system", "developer", "tool", "function")
            yield SkippedItem(place, str(role) if role in known else "unknown_role")
        elif not text.strip():
            yield SkippedItem(place, "tool" if message.get("tool_calls") else "empty")
        else:
            for piece, suffix in parts(text):
                yield ImportedBlock(
                    external_id=f"{session}:{number}{suffix}",
                    content=piece,
                    source=SOURCE,
                    occurred_at=instant(
                        message.get("created_at") or value.get("created_at"), options.time_zone
                    ),
                    speaker=name(message.get("name")) or str(role),
                    session_id=name(value.get("id") or value.get("custom_id")) or session,
                )


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [str(as_mapping(part).get("text") or "") for part in as_list(content)]
    return "\n\n".join(text for text in texts if text.strip())
