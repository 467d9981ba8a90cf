"""A user's relation graph as a picture: blocks along a time axis, relations as arcs beside it.

Each block is one row in order of time, so nothing overlaps and a chain of superseded blocks reads
from top to bottom. The file has no script and loads nothing; all user text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final
from uuid import UUID

from luma_memory.cli.output import shortened
from luma_memory.domain.relation import RelationType
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.relations import RelationBody

_LINE: Final = 26
_TOP: Final = 72
_ARC_MAX: Final = 260
_MARGIN: Final = 24
_TEXT_CHARACTERS: Final = 84
_WIDTH_OF_TEXT: Final = 860
_COLORS: Final[Mapping[RelationType, str]] = {
    "supersedes": "#c62828",
    "contradicts": "#ef6c00",
    "duplicates": "#6a1b9a",
    "elaborates": "#1565c0",
    "supports": "#2e7d32",
    "causes": "#00838f",
    "follows": "#90a4ae",
    "related": "#5d6d7e",
}
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#222}.when{fill:#667;font-size:11px}"
    ".gone{fill:#999;text-decoration:line-through}path{fill:none}.key{font-size:12px}"
)


def as_svg(blocks: Sequence[BlockBody], relations: Sequence[RelationBody]) -> str:
    """The graph as SVG; both lists may be empty."""
    ordered = sorted(blocks, key=lambda block: (block.occurred_at, block.created_at, block.id))
    places = {block.id: _TOP + _LINE * n for n, block in enumerate(ordered)}
    drawn = [one for one in relations if {one.source_id, one.target_id} <= places.keys()]
    axis = _MARGIN + min(_ARC_MAX, 40 + _reach(drawn, places) // 2)
    height = _TOP + _LINE * max(len(ordered), 1) + _MARGIN
    width = axis + _WIDTH_OF_TEXT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *_markers(),
            *_key(drawn),
            *(_arc(one, places, axis) for one in drawn),
            *(line for block in ordered for line in _block(block, places[block.id], axis)),
            *([] if ordered else [f'<text x="{_MARGIN}" y="{_TOP}">no blocks</text>']),
            "</svg>",
        ]
    )


def as_html(blocks: Sequence[BlockBody], relations: Sequence[RelationBody]) -> str:
    """The graph as a self-contained page."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy"
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<title>Relations</title><body style='margin:0;overflow:auto'>\n"
        f"{as_svg(blocks, relations)}\n</body></html>\n"
    )


def _reach(relations: Sequence[RelationBody], places: Mapping[UUID, int]) -> int:
    return max((abs(places[r.source_id] - places[r.target_id]) for r in relations), default=0)


def _markers() -> Iterator[str]:
    yield "<defs>"
    for kind, color in _COLORS.items():
        yield (
            f'<marker id="{kind}" markerWidth="9" markerHeight="9" refX="8" refY="4.5"'
            ' orient="auto" markerUnits="userSpaceOnUse">'
            f'<path d="M0,0 L9,4.5 L0,9 z" style="fill:{color}"/></marker>'
        )
    yield "</defs>"


def _key(relations: Sequence[RelationBody]) -> Iterator[str]:
    x = _MARGIN
    for kind, color in _COLORS.items():
        count = sum(one.type == kind for one in relations)
        if count:
            label = f"{kind} ({count})"
            line = f'x1="{x}" y1="28" x2="{x + 18}" y2="28"'
            yield f'<line {line} stroke="{color}" stroke-width="2"/>'
            yield f'<text class="key" x="{x + 24}" y="32">{label}</text>'
            x += 44 + 8 * len(label)


def _arc(relation: RelationBody, places: Mapping[UUID, int], axis: int) -> str:
    """An arrow from source to target, dashed if the relation was rejected."""
    start, stop = places[relation.source_id], places[relation.target_id]
    reach = min(_ARC_MAX, 40 + abs(start - stop) // 2)
    dashes = ' stroke-dasharray="4 4" opacity="0.5"' if relation.status == "rejected" else ""
    wide = 2 if relation.type in ("supersedes", "contradicts") else 1
    about = f"{relation.type}, {relation.confidence:.2f}, {relation.status}"
    title = escape(f"{about}: {relation.evidence}" if relation.evidence else about)
    return (
        f'<path d="M{axis - 8},{start} C{axis - reach},{start} {axis - reach},{stop}'
        f' {axis - 8},{stop}" stroke="{_COLORS[relation.type]}" stroke-width="{wide}"{dashes}'
        f' marker-end="url(#{relation.type})"><title>{title}</title></path>'
    )


def _block(block: BlockBody, y: int, axis: int) -> Iterator[str]:
    gone = block.superseded_by is not None
    fill = "#fff" if gone else "#37474f"
    full_text = " ".join(f"{block.speaker}: {block.content}".removeprefix("None: ").split())
    text = shortened(full_text, _TEXT_CHARACTERS)
    when = f"{block.occurred_at:%Y-%m-%d %H:%M}"
    yield f'<circle cx="{axis}" cy="{y}" r="5" fill="{fill}" stroke="#37474f"/>'
    yield f'<text class="when" x="{axis + 14}" y="{y + 4}">{when}</text>'
    name = ' class="gone"' if gone else ""
    yield (
        f'<text{name} x="{axis + 122}" y="{y + 4}">{_inert(text)}'
        f"<title>{_inert(full_text[:1_000])}</title></text>"
    )


def _inert(text: str) -> str:
    """Escaped, without characters that XML does not allow or that change the text direction."""
    return escape("".join(sign if sign.isprintable() else "\ufffd" for sign in text))
