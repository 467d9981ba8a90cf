"""The list of formats, and detection of a file's format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import ijson

from luma_memory.importers import (
    chatgpt,
    claude,
    graphiti,
    letta,
    mapped,
    markdown,
    mem0,
    openai_jsonl,
    slack,
    subtitles,
    whatsapp,
)
from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.json_streams import events
from luma_memory.importers.records import ImportOptions, Item, SkippedItem, UnknownFormat

# How much of a document is examined; the first conversation contains all keys of an export.
_EVENTS_MAX: Final = 20_000
_LINES_MAX: Final = 200
_DOCUMENTS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of export. title: for display."""

    name: str
    title: str
    read: Callable[[Bundle, ImportOptions], Iterator[Item]]


FORMATS: Final[Mapping[str, Format]] = {
    format_.name: format_
    for format_ in (
        Format("chatgpt", "ChatGPT data export", chatgpt.read),
        Format("claude", "Claude data export", claude.read),
        Format("mem0", "mem0 export", mem0.read),
        Format("graphiti", "Graphiti or Zep graph", graphiti.read),
        Format("letta", "Letta agent file", letta.read),
        Format("slack", "Slack workspace export", slack.read),
        Format("whatsapp", "WhatsApp chat export", whatsapp.read),
        Format("openai-jsonl", "OpenAI messages as JSON lines", openai_jsonl.read),
        Format("transcript", "SRT or WebVTT transcript", subtitles.read),
        Format("markdown", "Markdown notes", markdown.read),
        Format("mapped", "JSON, JSON lines or CSV with a mapping file", mapped.read),
    )
}


def detect(bundle: Bundle, options: ImportOptions) -> Format:
    """The format, detected by the contents of the documents. Raises UnknownFormat."""
    if not any(document.size_bytes for document in bundle.documents):
        raise UnknownFormat(f"{bundle.title} is empty", code="format_unknown")
    name = _detected(bundle, options)
    if name is None:
        known = ", ".join(FORMATS)
        raise UnknownFormat(
            f"{bundle.title} is of no format known here; name one with --format ({known}),"
            " or describe its fields with --mapping",
            code="format_unknown",
        )
    return FORMATS[name]


def read_items(format_: Format, bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """Everything in the documents; a single skipped item where there is nothing at all."""
    is_empty = True
    for item in format_.read(bundle, options):
        is_empty = False
        yield item
    if is_empty:
        yield SkippedItem(bundle.title, "nothing_found", f"no content of a {format_.title}")


def _detected(bundle: Bundle, options: ImportOptions) -> str | None:
    if options.mapping is not None:
        return "mapped"
    if slack.day_files(bundle) and bundle.named("users.json", "channels.json"):
        return "slack"
    if bundle.ending(".srt", ".vtt"):
        return "transcript"
    candidates = chatgpt.documents(bundle) if len(bundle.documents) > 1 else bundle.documents
    # Pictures and recordings lie beside a chat in its archive.
    texts = bundle.ending(".json", ".jsonl", ".ndjson", ".af", ".txt")
    for document in candidates or [*texts, *bundle.documents][:_DOCUMENTS_MAX]:
        if (name := _of_document(document)) is not None:
            return name
    return "markdown" if bundle.ending(".md", ".markdown") else None


def _of_document(document: Document) -> str | None:
    with document.bytes(counted=False) as stream:
        start = stream.peek(1)[:512].lstrip()  # type: ignore[attr-defined]
    if start[:1] in (b"[", b"{") and not _is_whatsapp(document):
        if _is_messages_lines(document):
            return "openai-jsonl"
        return _of_keys(_keys(document))
    if _is_whatsapp(document):
        return "whatsapp"
    return "transcript" if _has_timing(document) else None


def _of_keys(keys: set[str]) -> str | None:
    """keys: paths of a JSON document's first values, such as "item.mapping"."""
    if "item.mapping" in keys:
        return "chatgpt"
    if "item.chat_messages" in keys or "item.conversations_memory" in keys:
        return "claude"
    if {"item.memory", "results.item.memory", "memories.item.memory"} & keys:
        return "mem0"
    if "agents" in keys and ("agents.item.messages" in keys or "blocks" in keys):
        return "letta"
    if {"episodes", "edges", "facts"} & keys or {"nodes", "edges"} <= keys:
        return "graphiti"
    return None


def _keys(document: Document) -> set[str]:
    """Paths of the keys in the document's first events, down to the third level."""
    keys: set[str] = set()
    with document.bytes(counted=False) as stream:
        try:
            for number, (prefix, event, value) in enumerate(events(stream)):
                if event == "map_key" and prefix.count(".") < 3:
                    keys.add(f"{prefix}.{value}" if prefix else str(value))
                if number >= _EVENTS_MAX or _of_keys(keys) in ("chatgpt", "claude", "mem0"):
                    break
        except ijson.JSONError:
            pass
    return keys


def _is_messages_lines(document: Document) -> bool:
    if not document.name.lower().endswith((".jsonl", ".ndjson", ".json", ".txt")):
        return False
    with document.bytes(counted=False) as lines:
        first = lines.readline(4_000_000)
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    body = value.get("body") if isinstance(value, dict) else None
    holders = [holder for holder in (value, body) if isinstance(holder, dict)]
    return any(isinstance(holder.get("messages"), list) for holder in holders)


def _is_whatsapp(document: Document) -> bool:
    return any(whatsapp.START.match(line) for line in _first_lines(document))


def _has_timing(document: Document) -> bool:
    return any(subtitles.TIMING.match(line) for line in _first_lines(document))


def _first_lines(document: Document) -> Iterator[str]:
    with document.text(counted=False, is_checked=False) as text:
        for _ in range(_LINES_MAX):
            line = text.readline(2_000)
            if not line:
                return
            if not re.fullmatch(r"\s*", line):
                yield line
