"""ChatGPT's data export: `conversations.json`, or `conversations-NNN.json` since April 2026.

A conversation is a tree of messages; what its owner last saw is the branch that ends at
`current_node`. Only that branch is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.json_streams import json_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import as_list, as_mapping, epoch, name, parts

SOURCE: Final = "chatgpt"
_FILES: Final = re.compile(r"(^|/)conversations(-\d+)?\.json$")
_SPOKEN: Final = ("user", "assistant")
# Parts of a message without text; their names are kept in the block's metadata.
_MEDIA: Final = ("image_asset_pointer", "audio_asset_pointer", "video_container_asset_pointer")


def documents(bundle: Bundle) -> list[Document]:
    """The conversations of an export; a single file of any name counts."""
    found = [document for document in bundle.documents if _FILES.search(document.name)]
    return found or (list(bundle.documents) if len(bundle.documents) == 1 else [])


def read(bundle: Bundle, _options: ImportOptions) -> Iterator[Item]:
    """The messages of each conversation's current branch, in order."""
    for document in documents(bundle):
        with document.bytes() as stream:
            number = 0
            try:
                for number, conversation in enumerate(json_items(stream, "item"), 1):
                    yield from _conversation(as_mapping(conversation), f"{document.name}: {number}")
            except ijson.JSONError as error:
                where = f"{document.name}: after conversation {number}"
                yield SkippedItem(where, "malformed", problem(error))


def _conversation(conversation: Mapping[str, Any], where: str) -> Iterator[Item]:
    session = name(conversation.get("conversation_id") or conversation.get("id"))
    nodes = as_mapping(conversation.get("mapping"))
    if session is None or not nodes:
        yield SkippedItem(where, "malformed", "a conversation without an id or messages")
        return
    branch, is_cut = _branch(nodes, conversation.get("current_node"))
    if is_cut:
        yield SkippedItem(f"{where}: {session}", "malformed", "the branch of messages is a cycle")
    for node_id in branch:
        yield from _message(
            as_mapping(as_mapping(nodes[node_id]).get("message")), conversation, session, where
        )
    left = set(nodes).difference(branch)
    for node_id in sorted(left):
        if _words(as_mapping(as_mapping(nodes[node_id]).get("message"))).strip():
            yield SkippedItem(
                f"{where}: message {node_id}", "other_branch", "not in the last branch"
            )


def _branch(nodes: Mapping[str, Any], last: object) -> tuple[list[str], bool]:
    """Node ids from the root to `last`, and whether the parents form a cycle."""
    node_id = last if isinstance(last, str) and last in nodes else _newest_leaf(nodes)
    branch: dict[str, None] = {}
    while isinstance(node_id, str) and node_id in nodes:
        if node_id in branch:
            return list(reversed(branch)), True
        branch[node_id] = None
        node_id = as_mapping(nodes[node_id]).get("parent")
    return list(reversed(branch)), False


def _newest_leaf(nodes: Mapping[str, Any]) -> str | None:
    leaves = [node_id for node_id, node in nodes.items() if not as_mapping(node).get("children")]
    return max(leaves, key=lambda node_id: _time(nodes[node_id]), default=None)


def _time(node: object) -> float:
    created = as_mapping(as_mapping(node).get("message")).get("create_time")
    return created if isinstance(created, int | float) else 0.0


def _message(
    message: Mapping[str, Any], conversation: Mapping[str, Any], session: str, where: str
) -> Iterator[Item]:
    if not message:
        return  # the root of a conversation has no message
    message_id = name(message.get("id"))
    place = f"{where}: message {message_id}"
    reason = _why_not(message)
    if message_id is None:
        yield SkippedItem(place, "malformed", "a message without an id")
    elif reason is not None:
        yield SkippedItem(place, reason)
    else:
        yield from _blocks(message, message_id, conversation, session, place)


def _why_not(message: Mapping[str, Any]) -> str | None:
    role = as_mapping(message.get("author")).get("role")
    if as_mapping(message.get("metadata")).get("is_visually_hidden_from_conversation"):
        return "hidden"
    if role not in _SPOKEN:
        return str(role) if role in ("system", "tool") else "unknown_role"
    recipient = message.get("recipient")
    if role == "assistant" and recipient not in (None, "all"):
        return "tool"  # what the assistant wrote to a tool
    kind = as_mapping(message.get("content")).get("content_type")
    if kind in ("thoughts", "reasoning_recap"):
        return "reasoning"
    return None


def _blocks(
    message: Mapping[str, Any],
    message_id: str,
    conversation: Mapping[str, Any],
    session: str,
    place: str,
) -> Iterator[Item]:
    words = _words(message)
    if not words.strip():
        yield SkippedItem(place, "media" if _media(message) else "empty")
        return
    metadata = _metadata(message, conversation)
    for piece, suffix in parts(words):
        yield ImportedBlock(
            external_id=f"{SOURCE}:{message_id}{suffix}",
            content=piece,
            source=SOURCE,
            occurred_at=epoch(message.get("create_time")) or epoch(conversation.get("create_time")),
            speaker=str(as_mapping(message.get("author")).get("role")),
            session_id=session,
            metadata=metadata,
        )


def _words(message: Mapping[str, Any]) -> str:
    content = as_mapping(message.get("content"))
    texts = [_text_of(part) for part in as_list(content.get("parts"))]
    if not texts and isinstance(content.get("text"), str):
        texts = [content["text"]]
    return "\n\n".join(text for text in texts if text.strip())


def _text_of(part: object) -> str:
    if isinstance(part, str):
        return part
    text = as_mapping(part).get("text")  # for example a transcript of speech
    return text if isinstance(text, str) else ""


def _media(message: Mapping[str, Any]) -> bool:
    content = as_list(as_mapping(message.get("content")).get("parts"))
    return any(as_mapping(part).get("content_type") in _MEDIA for part in content)


def _metadata(message: Mapping[str, Any], conversation: Mapping[str, Any]) -> Mapping[str, Any]:
    attachments = [
        str(as_mapping(attached).get("name"))
        for attached in as_list(as_mapping(message.get("metadata")).get("attachments"))
        if as_mapping(attached).get("name")
    ]
    title = name(conversation.get("title"))
    return {
        **({"title": title} if title else {}),
        **({"attachments": attachments[:50]} if attachments else {}),
    }
