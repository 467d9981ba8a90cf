"""Graphs of Graphiti and Zep as JSON: `episodes`, `nodes` or `entities`, `edges` or `facts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle
from luma_memory.importers.json_streams import keyed_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, as_mapping, instant, name, parts

SOURCE: Final = "graphiti"


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """Episodes, the facts of edges, the summaries of nodes, in the file's order.

    A fact with an `invalid_at` or `expired_at` is skipped: its source considers it outdated.
    """
    ids = ContentIds(SOURCE)
    for document in bundle.documents:
        counts: Counter[str] = Counter()
        with document.bytes() as stream:
            try:
                for key, value in keyed_items(stream, *_READERS):
                    counts[key] += 1
                    found = _READERS[key](as_mapping(value), options, ids)
                    yield from _split(found, f"{document.name}: {key} {counts[key]}")
            except ijson.JSONError as error:
                where = f"{document.name}: after {sum(counts.values())}"
                yield SkippedItem(where, "malformed", problem(error))


def _split(result: ImportedBlock | tuple[str, str], where: str) -> Iterator[Item]:
    if isinstance(result, tuple):
        yield SkippedItem(where, *result)
        return
    for piece, suffix in parts(result.content):
        yield ImportedBlock(
            external_id=result.external_id + suffix,
            content=piece,
            source=SOURCE,
            occurred_at=result.occurred_at,
            session_id=result.session_id,
            owner=result.owner,
            metadata=result.metadata,
        )


def _episode(
    episode: Mapping[str, Any], options: ImportOptions, ids: ContentIds
) -> ImportedBlock | tuple[str, str]:
    text = _text(episode, "content", "episode_body", "body")
    if not text:
        return "empty", "an episode without content"
    description = name(episode.get("source_description"))
    return _block(
        text,
        episode,
        options,
        ids,
        times=("valid_at", "reference_time", "created_at"),
        metadata={"source_description": description} if description else {},
    )


def _fact(
    edge: Mapping[str, Any], options: ImportOptions, ids: ContentIds
) -> ImportedBlock | tuple[str, str]:
    text = _text(edge, "fact")
    if not text:
        return "empty", "an edge without a fact"
    for end in ("invalid_at", "expired_at"):
        if edge.get(end):
            return "no_longer_true", f"{end} {edge[end]}"
    relation = name(edge.get("name"))
    return _block(
        text,
        edge,
        options,
        ids,
        times=("valid_at", "created_at"),
        metadata={"relation": relation} if relation else {},
    )


def _node(
    node: Mapping[str, Any], options: ImportOptions, ids: ContentIds
) -> ImportedBlock | tuple[str, str]:
    title, summary = name(node.get("name")), _text(node, "summary")
    if not title or not summary:
        return "empty", "a node without a name or a summary"
    return _block(f"{title}: {summary}", node, options, ids, times=("created_at",), metadata={})


def _block(
    text: str,
    source: Mapping[str, Any],
    options: ImportOptions,
    ids: ContentIds,
    *,
    times: tuple[str, ...],
    metadata: Mapping[str, Any],
) -> ImportedBlock:
    found = (instant(source.get(field), options.time_zone) for field in times)
    group = name(source.get("group_id"))
    source_id = name(source.get("uuid") or source.get("id"))
    return ImportedBlock(
        external_id=f"{SOURCE}:{source_id}" if source_id else ids.of(text),
        content=text,
        source=SOURCE,
        occurred_at=next((moment for moment in found if moment is not None), None),
        session_id=group,
        owner=name(source.get("user_id")),
        metadata=metadata,
    )


def _text(source: Mapping[str, Any], *fields: str) -> str:
    for field in fields:
        value = source.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


_READERS: Final[
    Mapping[
        str,
        Callable[[Mapping[str, Any], ImportOptions, ContentIds], ImportedBlock | tuple[str, str]],
    ]
] = {
    "episodes": _episode,
    "edges": _fact,
    "facts": _fact,
    "nodes": _node,
    "entities": _node,
}
