"""Claude's data export: `conversations.json`, `projects.json`, `memories.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.json_streams import json_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, as_list, as_mapping, iso, name, parts

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
            yield SkippedItem(f"{document.name}: after {number}", "malformed", problem(error))


def _conversation(conversation: Mapping[str, Any], where: str) -> Iterator[Item]:
    session = name(conversation.get("uuid"))
    if session is None:
        yield SkippedItem(where, "malformed", "a conversation without a uuid")
        return
    messages = [as_mapping(message) for message in as_list(conversation.get("chat_messages"))]
    current = _current_branch(messages)
    for message in messages:
        place = f"{where}: message {message.get('uuid')}"
        message_id = name(message.get("uuid"))
        if message_id is not None and message_id not in current:
            yield SkippedItem(place, "other_branch", "not in the last branch")
        else:
            yield from _message(message, conversation, session, place)


def _current_branch(messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """The ids of the last message and what led to it; of all messages if parents are unknown."""
    by_id = {key: message for message in messages if (key := name(message.get("uuid")))}
    if not any(name(message.get("parent_message_uuid")) in by_id for message in by_id.values()):
        return set(by_id)
    branch: set[str] = set()
    current = list(by_id)[-1] if by_id else None
    while current is not None and current in by_id and current not in branch:
        branch.add(current)
        current = name(by_id[current].get("parent_message_uuid"))
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
        yield SkippedItem(place, _why_empty(message))
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
    """The text of a message; tool calls, their results and thoughts are left out.

    `text` repeats the content of a message, with placeholders for what is no text.
    """
    content = as_list(message.get("content"))
    if not content:
        return str(message.get("text") or "")
    texts = [
        str(as_mapping(part).get("text") or "")
        for part in content
        if as_mapping(part).get("type") == "text"
    ]
    return "\n\n".join(text for text in texts if text.strip())


def _why_empty(message: Mapping[str, Any]) -> str:
    kinds = {as_mapping(part).get("type") for part in as_list(message.get("content"))}
    if kinds & {"tool_use", "tool_result"}:
        return "tool"
    if "thinking" in kinds:
        return "reasoning"
    return "media" if message.get("files") or message.get("attachments") else "empty"


def _project(project: Mapping[str, Any], where: str) -> Iterator[Item]:
    """What its owner wrote about a project, and its documents."""
    project_id = name(project.get("uuid"))
    for field in ("description", "prompt_template"):
        text = project.get(field)
        if project_id is not None and isinstance(text, str):
            yield from _of_project(
                project, f"{project_id}:{field}", text, project.get("created_at"), None
            )
    for entry in as_list(project.get("docs")):
        document = as_mapping(entry)
        document_id = name(document.get("uuid"))
        if document_id is None:
            yield SkippedItem(where, "malformed", "a project's document without a uuid")
            continue
        text = document.get("content")
        if not isinstance(text, str) or not text.strip():
            yield SkippedItem(f"{where}: document {document_id}", "empty")
            continue
        yield from _of_project(
            project, document_id, text, document.get("created_at"), document.get("filename")
        )


def _of_project(
    project: Mapping[str, Any], key: str, text: str, created_at: object, file_name: object
) -> Iterator[Item]:
    facts = {"title": name(project.get("name")), "file_name": name(file_name)}
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=f"{SOURCE}:{key}{suffix}",
            content=piece,
            source=SOURCE,
            occurred_at=iso(created_at) or iso(project.get("created_at")),
            session_id=name(project.get("uuid")),
            metadata={fact: value for fact, value in facts.items() if value},
        )


def _memories(memories: Mapping[str, Any], _where: str) -> Iterator[Item]:
    texts = {"conversations": memories.get("conversations_memory")}
    texts |= {
        f"project:{project}": text
        for project, text in as_mapping(memories.get("project_memories")).items()
    }
    # A memory is rewritten in place: its text is part of the id, so that a newer one is new.
    ids = ContentIds(f"{SOURCE}:memory")
    for kind, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            continue
        external_id = ids.of(memories.get("account_uuid"), kind, text)
        for piece, suffix in parts(text):
            yield ImportedBlock(
                external_id=external_id + suffix,
                content=piece,
                source=SOURCE,
                occurred_at=iso(memories.get("updated_at")) or iso(memories.get("created_at")),
                metadata={"title": "what Claude remembered"},
            )
