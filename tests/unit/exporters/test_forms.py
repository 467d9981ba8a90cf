"""Exports in the forms of others, written from rows made up here and read back by the importers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.support.exports import blocks, detected, items

from luma_memory.exporters.markdown import MarkdownExport
from luma_memory.exporters.mem0 import Mem0Export

ROW: Mapping[str, Any] = {
    "id": "019cb3f2-0000-7000-8000-0123456789ab",
    "content": "Moved to Lisbon: *«finalmente»* 🪵\n---\nsecond: line",
    "speaker": "Ann: Example",
    "session_id": "chat/../7 ☕",
    "agent_id": "helper",
    "source": "chat",
    "external_id": "m-1",
    "metadata": {"mood": "glad", "n": [1, None]},
    "tags": ["moving", "lisbon"],
    "occurred_at": "2026-03-02T09:00:00.5+01:00",
    "created_at": "2026-03-02T09:00:01+00:00",
    "updated_at": "2026-03-03T09:00:00+00:00",
    "expires_at": "2027-01-01T00:00:00+00:00",
    "superseded_by": None,
    "namespace": None,
}
PLAIN: Mapping[str, Any] = {
    "id": "019cb3f2-0000-7000-8000-0123456789ff",
    "content": "../../etc/passwd",
    "speaker": "user",
    "metadata": {},
    "created_at": "2026-03-02T09:00:01+00:00",
}
OLD = {**PLAIN, "id": "019cb3f2-0000-7000-8000-0123456789fe", "superseded_by": ROW["id"]}
ITEM = {**PLAIN, "id": "019cb3f2-0000-7000-8000-0123456789fd", "namespace": ["a"], "key": "k"}


def lines(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    entries = [
        {"kind": "header", "format": "luma-memory-export/1", "user_id": "ada"},
        {"kind": "users", "row": {"user_id": "ada"}},
        *({"kind": "blocks", "row": row} for row in rows),
        {"kind": "end", "counts": {"blocks": len(rows)}},
    ]
    return [json.dumps(entry).encode() + b"\n" for entry in entries]


def mem0(*rows: Mapping[str, Any]) -> tuple[bytes, Mem0Export]:
    file = io.BytesIO()
    form = Mem0Export(file)
    for line in lines(rows):
        form.take(line)
    form.end()
    return file.getvalue(), form


def test_mem0_has_its_fields_and_is_read_back(tmp_path: Path) -> None:
    data, form = mem0(ROW, OLD, ITEM, PLAIN)
    first, second = json.loads(data)["results"]
    assert first == {
        "id": ROW["id"],
        "memory": ROW["content"],
        "hash": hashlib.md5(ROW["content"].encode(), usedforsecurity=False).hexdigest(),
        "user_id": "ada",
        "agent_id": "helper",
        "run_id": "chat/../7 ☕",
        "actor_id": "Ann: Example",
        "metadata": {"mood": "glad", "n": [1, None], "source": "chat", "external_id": "m-1"},
        "categories": ["moving", "lisbon"],
        "created_at": "2026-03-02T09:00:00.5+01:00",
        "updated_at": "2026-03-03T09:00:00+00:00",
        "expiration_date": "2027-01-01",
    }
    assert (second["role"], second["created_at"]) == ("user", PLAIN["created_at"])
    assert form.counts.written == 2
    assert form.counts.left_out == {"superseded blocks": 1, "items": 1}
    path = tmp_path / "ada.json"
    path.write_bytes(data)
    assert detected(path) == "mem0"
    one, two = blocks(items(path))
    assert (one.content, one.speaker, one.session_id, one.agent_id, one.owner) == (
        *(ROW["content"], "Ann: Example", "chat/../7 ☕", "helper", "ada"),
    )
    assert one.occurred_at is not None
    assert one.occurred_at.isoformat() == "2026-03-02T09:00:00.500000+01:00"
    assert (two.content, two.speaker) == (PLAIN["content"], "user")


def test_mem0_without_any_block_is_an_empty_list() -> None:
    data, _ = mem0(ITEM)
    assert json.loads(data) == {"results": []}


def test_notes_are_read_back_and_stay_in_their_folder(tmp_path: Path) -> None:
    written: dict[str, str] = {}
    form = MarkdownExport(written.__setitem__)
    for line in lines([ROW, OLD, ITEM, PLAIN]):
        form.take(line)
    form.end()
    assert sorted(written) == [
        "chat .. 7/2026-03-02 Moved to Lisbon finalmente --- second line 0123456789ab.md",
        "notes/2026-03-02 etc passwd 0123456789fe.md",
        "notes/2026-03-02 etc passwd 0123456789ff.md",
    ]
    front = yaml.safe_load(min(written.items())[1].split("\n---\n")[0])
    assert front["author"] == "Ann: Example"
    assert front["expires"] == ROW["expires_at"]
    for path, note in written.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(note, encoding="utf-8")
    assert detected(tmp_path) == "markdown"
    one, old, plain = blocks(items(tmp_path))
    assert (one.content, one.speaker, one.session_id, one.agent_id) == (
        *(ROW["content"], "Ann: Example", "chat/../7 ☕", "helper"),
    )
    assert one.occurred_at is not None
    assert one.occurred_at.isoformat() == "2026-03-02T09:00:00.500000+01:00"
    assert one.metadata["mood"] == "glad"
    assert one.metadata["tags"] == ["moving", "lisbon"]
    assert [block.content for block in (old, plain)] == [PLAIN["content"]] * 2
    assert form.counts.left_out == {"items": 1}
