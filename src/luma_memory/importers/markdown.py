"""Notes in Markdown, with or without front matter; also those that `exporters` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Final

import yaml

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, as_mapping, instant, name, parts

SOURCE: Final = "markdown"
_NOTE_CHARACTERS_MAX: Final = 5_000_000
_FRONT_CHARACTERS_MAX: Final = 100_000
_INTEGER_BITS_MAX: Final = 1_024
_FRONT: Final = "---"
_TIMES: Final = ("date", "created", "created_at", "created-at", "updated", "modified")


class _Loader(yaml.SafeLoader):
    """Refuses integers that are too long to be written in decimal digits."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > _INTEGER_BITS_MAX:
            raise yaml.YAMLError("a number of too many digits")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """One block per note. An edited note is a new block: the text is part of its id."""
    ids = ContentIds(SOURCE)
    for document in bundle.ending(".md", ".markdown") or bundle.documents:
        with document.text() as text:
            note = text.read(_NOTE_CHARACTERS_MAX + 1)
        if len(note) > _NOTE_CHARACTERS_MAX:
            yield SkippedItem(document.name, "too_long", "more than five million characters")
            continue
        yield from _note(document, note, options, ids)


def _note(document: Document, note: str, options: ImportOptions, ids: ContentIds) -> Iterator[Item]:
    try:
        front, body = _split(note)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or (error.args or ("no YAML",))[0]
        yield SkippedItem(document.name, "malformed", f"front matter: {problem}")
        return
    if not body.strip():
        yield SkippedItem(document.name, "empty")
        return
    title = name(front.get("title")) or document.stem
    external_id = ids.of(name(front.get("id")) or document.name, body)
    for piece, suffix in parts(body):
        yield ImportedBlock(
            external_id=external_id + suffix,
            content=piece,
            source=SOURCE,
            occurred_at=_time(front, options),
            speaker=name(front.get("author")),
            session_id=name(front.get("session")) or name(document.name.rpartition("/")[0]),
            agent_id=name(front.get("agent")),
            metadata={
                **as_mapping(front.get("metadata")),
                "title": title,
                "path": document.name,
                **_tags(front),
            },
        )


def _split(note: str) -> tuple[Mapping[str, Any], str]:
    """Front matter between two lines of `---` at the start, and what follows."""
    lines = note.splitlines(keepends=True)
    if not lines or lines[0].strip() != _FRONT:
        return {}, note
    for number, line in enumerate(lines[1:], 1):
        if line.strip() in (_FRONT, "..."):
            return _front(lines[1:number]), "".join(lines[number + 1 :])
    return {}, note


def _front(lines: Sequence[str]) -> Mapping[str, Any]:
    text = "".join(lines)
    if len(text) > _FRONT_CHARACTERS_MAX:
        raise yaml.YAMLError("too long")
    try:
        return as_mapping(_Loader(text).get_single_data())
    except (ValueError, RecursionError) as error:  # a date that does not exist, deep nesting
        raise yaml.YAMLError(str(error)) from error


def _time(front: Mapping[str, Any], options: ImportOptions) -> datetime | None:
    for key in _TIMES:
        value = front.get(key)
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime.combine(value, time(), options.time_zone)
        if moment := instant(value, options.time_zone):
            return moment
    return None


def _tags(front: Mapping[str, Any]) -> Mapping[str, Any]:
    tags = front.get("tags")
    if isinstance(tags, str):
        tags = tags.split(",")
    named = [name(tag) for tag in tags[:50]] if isinstance(tags, list) else []
    return {"tags": [tag for tag in named if tag]} if any(named) else {}
