"""The picture of a user's graph."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

from luma_memory.cli.relation_graph import as_html, as_svg
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.relations import RelationBody

THEN = datetime(2026, 1, 5, 9, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def _block(number: int, content: str, superseded_by: int | None = None) -> BlockBody:
    known: dict[str, Any] = {
        "id": UUID(int=number),
        "content": content,
        "speaker": "Ada",
        "occurred_at": THEN + timedelta(days=number),
        "created_at": THEN,
        "superseded_by": UUID(int=superseded_by) if superseded_by else None,
    }
    return BlockBody.model_construct(**known)


def _relation(source: int, target: int, status: str = "accepted") -> RelationBody:
    return RelationBody.model_validate(
        {
            "id": UUID(int=100 * source + target), "source_id": UUID(int=source),
            "target_id": UUID(int=target), "type": "supersedes", "confidence": 0.9,
            "evidence": "</title><script>", "model": "m", "status": status, "decided_by": None,
            "created_at": THEN, "updated_at": THEN,
        }
    )  # fmt: skip


def test_replaced_blocks_are_struck_through_and_texts_are_inert() -> None:
    blocks = [_block(1, "<b>Berlin</b>\x00\u202e", 2), _block(2, "Lisbon", 3), _block(3, "Porto")]
    picture = as_svg(blocks, [_relation(2, 1), _relation(3, 2), _relation(3, 1, "rejected")])
    root = ET.fromstring(picture)
    assert len([t for t in root.iter(f"{SVG}text") if t.get("class") == "gone"]) == 2
    arcs = [path for path in root.findall(f"{SVG}path") if path.get("marker-end")]
    assert len(arcs) == 3
    assert len([arc for arc in arcs if arc.get("stroke-dasharray")]) == 1
    assert "<script>" not in picture
    assert "\u202e" not in picture
    assert as_html(blocks, []).startswith("<!doctype html>")


def test_a_graph_of_nothing_and_relations_of_blocks_that_are_not_shown() -> None:
    ET.fromstring(as_svg([], []))
    assert "marker-end" not in as_svg([_block(1, "Berlin")], [_relation(2, 1)])
