"""Notes in Markdown with front matter, one per block: `SESSION/2026-03-02 Title 0123abcd.md`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from luma_memory.exporters.rows import Blocks, text

_NOT_IN_NAMES: Final = re.compile(r"[^\w .,()+-]+")
_TITLE_CHARACTERS_MAX: Final = 60
_FOLDER_CHARACTERS_MAX: Final = 80
_NO_SESSION: Final = "notes"


class MarkdownExport:
    """Hands each note to `add`: its relative path with `/`, unique within an export, and its text.

    The note of a superseded block names in `superseded_by` what replaced it.
    """

    def __init__(self, add: Callable[[str, str], None]) -> None:
        self._blocks = Blocks()
        self.counts = self._blocks.counts
        self._add = add

    def take(self, line: bytes) -> None:
        row = self._blocks.take(line)
        if row is not None:
            self._add(_path(row), _note(row))
            self.counts.written += 1

    def end(self) -> None:
        """There is nothing to complete."""


def _note(row: Mapping[str, Any]) -> str:
    metadata = row.get("metadata") or {}
    facts = {
        "id": row["id"],
        "title": _title(row),
        "date": row.get("occurred_at") or row["created_at"],
        "author": text(row, "speaker"),
        "session": text(row, "session_id"),
        "agent": text(row, "agent_id"),
        "tags": row.get("tags") or None,
        "source": text(row, "source"),
        "external_id": text(row, "external_id"),
        "expires": text(row, "expires_at"),
        "superseded_by": row.get("superseded_by"),
        "metadata": metadata or None,
    }
    front = yaml.safe_dump(
        {name: value for name, value in facts.items() if value is not None},
        allow_unicode=True,
        sort_keys=False,
        width=10_000,
    )
    return f"---\n{front}---\n\n{row['content']}\n"


def _title(row: Mapping[str, Any]) -> str:
    stated = (row.get("metadata") or {}).get("title")
    line = stated if isinstance(stated, str) else text(row, "title") or row["content"]
    words = " ".join(line.split())
    return (
        words if len(words) <= _TITLE_CHARACTERS_MAX else words[: _TITLE_CHARACTERS_MAX - 1] + "…"
    )


def _path(row: Mapping[str, Any]) -> str:
    day = str(row.get("occurred_at") or row["created_at"])[:10]
    number = str(row["id"]).replace("-", "")[-12:]
    folder = _safe(text(row, "session_id") or _NO_SESSION, _FOLDER_CHARACTERS_MAX) or _NO_SESSION
    title = _safe(_title(row), _TITLE_CHARACTERS_MAX)
    return f"{folder}/{' '.join(part for part in (day, title, number) if part)}.md"


def _safe(name: str, characters_max: int) -> str:
    """A name that every file system takes: neither hidden nor a way out of its folder."""
    cut = _NOT_IN_NAMES.sub(" ", name).encode()[:characters_max].decode("utf-8", "ignore")
    return " ".join(cut.split()).strip(" .")
