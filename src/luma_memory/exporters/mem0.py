"""mem0's form: `{"results": [{"id", "memory", "user_id", …}]}`, as its `get_all` returns it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from luma_memory.exporters.rows import Blocks, text

_ROLES: Final = ("user", "assistant")


class Mem0Export:
    """Writes one memory per line. A block that a later one superseded is left out: mem0 has no such
    state and would recall it as if it were still true."""

    def __init__(self, file: BinaryIO) -> None:
        self._blocks = Blocks()
        self.counts = self._blocks.counts
        self._file = file
        file.write(b'{"results": [')

    def take(self, line: bytes) -> None:
        row = self._blocks.take(line)
        if row is None:
            return
        if row.get("superseded_by") is not None:
            self.counts.left_out["superseded blocks"] += 1
            return
        memory = json.dumps(_memory(row, self._blocks.user_id), ensure_ascii=False).encode()
        self._file.write((b",\n" if self.counts.written else b"\n") + memory)
        self.counts.written += 1

    def end(self) -> None:
        self._file.write(b"\n]}\n")


def _memory(row: Mapping[str, Any], user_id: str) -> Mapping[str, Any]:
    content = row["content"]
    speaker = text(row, "speaker")
    metadata = dict(row.get("metadata") or {})
    for name in ("source", "external_id"):
        if value := text(row, name):
            metadata.setdefault(name, value)
    memory = {
        "id": row["id"],
        "memory": content,
        "hash": hashlib.md5(content.encode(), usedforsecurity=False).hexdigest(),
        "user_id": user_id,
        "agent_id": text(row, "agent_id"),
        "run_id": text(row, "session_id"),
        "actor_id": speaker,
        "role": speaker if speaker in _ROLES else None,
        "metadata": metadata or None,
        "categories": row.get("tags") or None,
        # When it happened: that is what a memory's age means there.
        "created_at": row.get("occurred_at") or row["created_at"],
        "updated_at": row.get("updated_at"),
        "expiration_date": (text(row, "expires_at") or "")[:10] or None,
    }
    return {name: value for name, value in memory.items() if value is not None}
