"""The turns of a coding agent's session, from the JSON lines it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

# The end of the file is enough: each call stores the turns since the last one, and a turn that is
# sent again is stored once.
_TAIL_BYTES: Final = 512 * 1024
TURNS_MAX: Final = 40


class Turn(NamedTuple):
    """What the user or the assistant wrote; tool calls and their results are left out."""

    id: str
    role: str
    text: str
    occurred_at: str | None


def last_turns(path: Path) -> Sequence[Turn]:
    """The last turns of a transcript, oldest first. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    if size > _TAIL_BYTES:
        del lines[0]  # cut
    return list(_turns(lines))[-TURNS_MAX:]


def _turns(lines: Sequence[bytes]) -> Iterator[Turn]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # the last line may be half written
            continue
        if isinstance(record, dict) and (turn := _turn(record)) is not None:
            yield turn


def _turn(record: Mapping[str, Any]) -> Turn | None:
    role, message = record.get("type"), record.get("message")
    is_side = record.get("isMeta") or record.get("isSidechain")
    if role not in ("user", "assistant") or is_side or not isinstance(message, dict):
        return None
    text = _text(message.get("content")).strip()
    identity, at = record.get("uuid"), record.get("timestamp")
    if not text or not isinstance(identity, str):
        return None
    return Turn(identity, role, text, at if isinstance(at, str) else None)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(str(part.get("text", "")) for part in parts)
