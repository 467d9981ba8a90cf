"""Convert memory-retrieval/1 conversations to blocks, and ranked blocks to ranked items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

from luma_memory.cli.evaluation.dataset import Conversation, Dataset, Item, read_dataset
from luma_memory.cli.json_lines import BlockLine, batches
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.block import CONTENT_CHARACTERS_MAX
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.search import LIMIT_MAX, SearchResponse

BATCH_BLOCKS = 250


@dataclass(frozen=True, slots=True)
class ItemBlock:
    """A block to send, with the item it contains or is part of."""

    item_id: str
    body: Mapping[str, Any]


@dataclass
class StoredConversation:
    """A conversation stored in its own scope."""

    conversation: Conversation
    user_id: str
    items: dict[UUID, str] = field(default_factory=dict)  # block id to item id

    @property
    def extra_blocks(self) -> int:
        """How many more blocks than items there are."""
        return len(self.items) - len(set(self.items.values()))

    @cached_property
    def sessions(self) -> Mapping[str, str]:
        """The session of each item that has one."""
        return {item.id: item.session for item in self.conversation.items if item.session.strip()}

    def ranking(self, response: SearchResponse) -> list[str]:
        """Item ids, best first; an item in several blocks counts once, at its best rank."""
        ranked = (self.items.get(hit.block.id) for hit in response.results)
        return list(dict.fromkeys(item for item in ranked if item is not None))

    def limit(self, items: int) -> int:
        """How many blocks to request to get at least so many items."""
        return min(LIMIT_MAX, items + self.extra_blocks)


def read_conversations(path: Path) -> Dataset:
    """The data set in a file. Raises Invalid naming the file."""
    try:
        return read_dataset(path.read_bytes())
    except Invalid as error:
        raise Invalid(f"{path.name} is {error}", code=error.code, field=error.field) from error


def item_blocks(items: Iterable[Item], *, user_id: str) -> Iterator[ItemBlock]:
    """The blocks of the items, in order; an item longer than a block becomes several blocks."""
    for item in items:
        caption = f" [image: {item.caption}]" if item.caption else ""
        content = (item.text + caption).strip()
        for number, part in enumerate(split_content(content), 1):
            external_id = item.id if number == 1 else f"{item.id}#{number}"
            yield ItemBlock(item.id, _body(item, part, user_id, external_id))


def split_content(content: str) -> list[str]:
    """Parts that fit into a block, split between words where possible; none for blank text."""
    parts = []
    while len(content) > CONTENT_CHARACTERS_MAX:
        cut = content.rfind(" ", CONTENT_CHARACTERS_MAX // 2, CONTENT_CHARACTERS_MAX)
        cut = cut if cut > 0 else CONTENT_CHARACTERS_MAX
        parts.append(content[:cut])
        content = content[cut:].lstrip()
    return [part for part in (*parts, content) if part.strip()]


async def store(client: ServiceClient, stored: StoredConversation) -> None:
    """Store a conversation in order. Raises Invalid for a rejected block."""
    blocks = list(item_blocks(stored.conversation.items, user_id=stored.user_id))
    lines = (
        BlockLine(index, dict(block.body), len(json.dumps(block.body)))
        for index, block in enumerate(blocks)
    )
    for group in batches(lines, count_max=BATCH_BLOCKS):
        response = await client.ingest_batch_async([line.body for line in group])
        for result in response.results:
            block = blocks[group[result.index].number]
            if result.id is None:
                reason = result.error.detail if result.error else "no reason given"
                raise Invalid(f"Item {block.item_id} was rejected: {reason}", code="item_refused")
            stored.items[result.id] = block.item_id


def sessions(blocks: Sequence[ItemBlock]) -> list[list[ItemBlock]]:
    """The blocks grouped by session, each in order."""
    grouped: dict[object, list[ItemBlock]] = {}
    for block in blocks:
        grouped.setdefault(block.body.get("session_id"), []).append(block)
    return list(grouped.values())


def _body(item: Item, content: str, user_id: str, external_id: str) -> dict[str, Any]:
    fields = {
        "user_id": user_id,
        "content": content,
        "speaker": item.speaker.strip() or None,
        "session_id": item.session.strip() or None,
        "external_id": external_id,
        "occurred_at": item.occurred_at.isoformat() if item.occurred_at else None,
    }
    return {name: value for name, value in fields.items() if value is not None}
