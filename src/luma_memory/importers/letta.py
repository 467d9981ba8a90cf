"""Letta's agent files (`.af`): messages of each agent, its memory blocks, the text of files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle
from luma_memory.importers.json_streams import keyed_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, as_list, as_mapping, instant, name, parts

SOURCE: Final = "letta"
_SPOKEN: Final = ("user", "assistant")


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The messages of user and agent, the labeled memory blocks, and files, in the file's order."""
    ids = ContentIds(SOURCE)
    readers = {"agents": _agent, "blocks": _memory_block, "files": _file}
    for document in bundle.documents:
        counts: Counter[str] = Counter()
        with document.bytes() as stream:
            try:
                for key, value in keyed_items(stream, *readers):
                    counts[key] += 1
                    where = f"{document.name}: {key} {counts[key]}"
                    yield from readers[key](as_mapping(value), where, options, ids)
            except ijson.JSONError as error:
                where = f"{document.name}: after {sum(counts.values())}"
                yield SkippedItem(where, "malformed", problem(error))


def _agent(
    agent: Mapping[str, Any], where: str, options: ImportOptions, ids: ContentIds
) -> Iterator[Item]:
    agent_id = name(agent.get("id"))
    for number, value in enumerate(as_list(agent.get("messages")), 1):
        message = as_mapping(value)
        place = f"{where}: message {number}"
        role, text = message.get("role"), _words(message)
        if role not in _SPOKEN:
            yield SkippedItem(place, str(role) if role in ("system", "tool") else "unknown_role")
            continue
        if not text.strip():
            yield SkippedItem(place, "tool" if message.get("tool_calls") else "empty")
            continue
        message_id = name(message.get("id"))
        for piece, suffix in parts(text):
            yield ImportedBlock(
                external_id=(
                    f"{SOURCE}:{agent_id}:{message_id}" if message_id else ids.of(agent_id, text)
                )
                + suffix,
                content=piece,
                source=SOURCE,
                occurred_at=instant(message.get("created_at"), options.time_zone),
                speaker=name(message.get("name")) or str(role),
                session_id=agent_id,
                agent_id=name(agent.get("name")) or agent_id,
            )


def _words(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [
        str(as_mapping(part).get("text") or "")
        for part in as_list(content)
        if as_mapping(part).get("type", "text") == "text"
    ]
    joined = "\n\n".join(text for text in texts if text.strip())
    return joined or "\n\n".join(_sent(call) for call in as_list(message.get("tool_calls")))


def _sent(call: object) -> str:
    """Agents of older versions speak by calling `send_message`."""
    function = as_mapping(as_mapping(call).get("function"))
    if function.get("name") != "send_message":
        return ""
    try:
        arguments = json.loads(str(function.get("arguments")))
    except (ValueError, RecursionError):
        return ""
    return str(as_mapping(arguments).get("message") or "")


def _memory_block(
    block: Mapping[str, Any], where: str, _options: ImportOptions, ids: ContentIds
) -> Iterator[Item]:
    text, label = block.get("value"), name(block.get("label"))
    if not isinstance(text, str) or not text.strip():
        yield SkippedItem(where, "empty", "a memory block without a value")
        return
    # A memory block is rewritten in place: its text is part of the id, so that a newer one is new.
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=ids.of(block.get("id"), label, text) + suffix,
            content=piece,
            source=SOURCE,
            metadata={"label": label} if label else {},
        )


def _file(
    file: Mapping[str, Any], where: str, options: ImportOptions, ids: ContentIds
) -> Iterator[Item]:
    text = file.get("content")
    title = name(file.get("original_file_name")) or name(file.get("file_name"))
    if not isinstance(text, str) or not text.strip():
        yield SkippedItem(where, "empty", "a file without its text")
        return
    external_id = ids.of(file.get("id"), title, text)
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=external_id + suffix,
            content=piece,
            source=SOURCE,
            occurred_at=instant(file.get("created_at"), options.time_zone),
            metadata={"file_name": title} if title else {},
        )
