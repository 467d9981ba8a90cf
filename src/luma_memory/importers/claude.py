"""Claude's data export: `conversations.json`, `projects.json`, `memories.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import as_list, as_mapping, iso, json_items, name, parts

SOURCE: Final = "claude"
_SPEAKERS: Final = {"human": "user", "user": "user", "assistant": "assistant"}


def read(bundle: Bundle, _options: ImportOptions) -> Iterator[Item]:
    """Conversations, then the documents of projects, then what Claude remembered."""
    conversations = bundle.named("conversations.json")
    if not conversations and len(bundle.documents) == 1:
        conversations = bundle.documents
    for document in conversations:
        yield from _each(document, _conversation)
    for document in bundle.named("projects.json"):
        yield from _each(document, _project)
    for document in bundle.named("memories.json"):
        yield from _each(document, _memories)


def _each(document: Document, reader: Any) -> Iterator[Item]:
    number = 0
    with document.bytes() as stream:
        try:
            for number, value in enumerate(json_items(stream, "item"), 1):
                yield from reader(as_mapping(value), f"{document.name}: {number}")
        except ijson.JSONError as error:
            yield SkippedItem(f"{document.name}: after {number}", "malformed", str(error))


def _conversation(conversation: Mapping[str, Any], where: str) -> Iterator[Item]:
    session = name(conversation.get("uuid"))
    if session is None:
        yield SkippedItem(where, "malformed", "a conversation without a uuid")
        return
    messages = [as_mapping(message) for message in as_list(conversation.get("chat_messages"))]
    current = _current_branch(messages)
    for message in messages:
        place = f"{where}: message {message.get('uuid')}"
        if message.get("uuid") not in current:
            yield SkippedItem(place, "other_branch", "not in the last branch")
        else:
            yield from _message(message, conversation, session, place)


def _current_branch(messages: Sequence[Mapping[str, Any]]) -> set[Any]:
    """The ids of the last message and what led to it; of all messages if parents are unknown."""
    by_id = {message.get("uuid"): message for message in messages}
    if not any(message.get("parent_message_uuid") in by_id for message in messages):
        return set(by_id)
    branch: set[Any] = set()
    current = messages[-1].get("uuid")
    while current in by_id and current not in branch:
        branch.add(current)
        current = by_id[current].get("parent_message_uuid")
    return branch


def _message(
    message: Mapping[str, Any], conversation: Mapping[str, Any], session: str, place: str
) -> Iterator[Item]:
    message_id = name(message.get("uuid"))
    speaker = _SPEAKERS.get(str(message.get("sender")))
    if message_id is None or speaker is None:
        yield SkippedItem(place, "malformed", "a message without a uuid or a known sender")
        return
    title = name(conversation.get("name"))
    metadata = {"title": title} if title else {}
    texts = [(f"{SOURCE}:{message_id}", _words(message), metadata)]
    for number, attached in enumerate(as_list(message.get("attachments")), 1):
        attachment = as_mapping(attached)
        file_name = name(attachment.get("file_name"))
        texts.append(
            (
                f"{SOURCE}:{message_id}:attachment:{number}",
                str(attachment.get("extracted_content") or ""),
                {**metadata, **({"file_name": file_name} if file_name else {})},
            )
        )
    if not any(text.strip() for _, text, _ in texts):
        yield SkippedItem(place, "empty")
    for external_id, text, facts in texts:
        for piece, suffix in parts(text):
            yield ImportedBlock(
                external_id=external_id + suffix,
                content=piece,
                source=SOURCE,
                occurred_at=iso(message.get("created_at")) or iso(conversation.get("created_at")),
                speaker=speaker,
                session_id=session,
                metadata=facts,
            )


def _words(message: Mapping[str, Any]) -> str:
    """The text of a message; tool calls, their results and thoughts are left out."""
    texts = [
        str(as_mapping(part).get("text") or "")
        for part in as_list(message.get("content"))
        if as_mapping(part).get("type") == "text"
    ]
    joined = "\n\n".join(text for text in texts if text.strip())
    return joined or str(message.get("text") or "")


def _project(project: Mapping[str, Any], where: str) -> Iterator[Item]:
    title = name(project.get("name"))
    for entry in as_list(project.get("docs")):
        document = as_mapping(entry)
        document_id = name(document.get("uuid"))
        if document_id is None:
            yield SkippedItem(where, "malformed", "a project's document without a uuid")
            continue
        for piece, suffix in parts(str(document.get("content") or "")):
            yield ImportedBlock(
                external_id=f"{SOURCE}:{document_id}{suffix}",
                content=piece,
                source=SOURCE,
                occurred_at=iso(document.get("created_at")) or iso(project.get("created_at")),
                session_id=name(project.get("uuid")),
                metadata={
                    **({"title": title} if title else {}),
                    **(
                        {"file_name": str(document["filename"])} if document.get("filename") else {}
                    ),
                },
            )


def _memories(memories: Mapping[str, Any], _where: str) -> Iterator[Item]:
    texts = {"conversations": memories.get("conversations_memory")}
    texts |= {
        f"project:{project}": text
        for project, text in as_mapping(memories.get("project_memories")).items()
    }
    account = name(memories.get("account_uuid")) or "account"
    for kind, text in texts.items():
        for piece, suffix in parts(text if isinstance(text, str) else ""):
            yield ImportedBlock(
                external_id=f"{SOURCE}:memory:{account}:{kind}{suffix}",
                content=piece,
                source=SOURCE,
                occurred_at=iso(memories.get("updated_at")) or iso(memories.get("created_at")),
                metadata={"title": "what Claude remembered"},
            )
