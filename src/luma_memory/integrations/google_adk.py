"""The memory service of Google's Agent Development Kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from luma_memory.client import NotFound
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.integrations.turns import name_of, store
from luma_memory.protocol.blocks import BlockBody

try:
    from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
    from google.adk.memory.memory_entry import MemoryEntry
    from google.genai import types
except ModuleNotFoundError as error:
    raise extra_missing(error, "google-adk") from error

if TYPE_CHECKING:
    from google.adk.events.event import Event
    from google.adk.sessions.session import Session

# Events whose memories were deleted; the session that is added again still has them.
_DELETED: Final = "adk-deleted"
_SOURCE: Final = "google-adk"
_BATCH: Final = 500


class LumaMemoryService(BaseMemoryService):
    """The memories of an app's users; see docs/integrations/google-adk.md.

    url, api_key: of the service. limit: memories of a search. The app is the blocks' `agent_id`:
    apps do not see each other's memories of a user.
    """

    def __init__(self, url: str, api_key: str | None = None, *, limit: int = 10) -> None:
        self._clients = Clients(url, api_key)
        self._limit = limit

    async def add_session_to_memory(self, session: Session) -> None:
        """Store the session's events; those stored before are not stored again."""
        await self.add_events_to_memory(
            app_name=session.app_name,
            user_id=session.user_id,
            events=session.events,
            session_id=session.id,
        )

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Store events that have text; thoughts and parts of unfinished responses are left out."""
        texts = [(event, _text(event.content)) for event in events if not event.partial]
        filled = [(event, text) for event, text in texts if text.strip()]
        deleted = await self._deleted(app_name, user_id, [event.id for event, _ in filled])
        blocks = [
            _block(app_name, user_id, text, event.author, custom_metadata)
            | {
                "external_id": name_of(app_name, event.id),
                "occurred_at": datetime.fromtimestamp(event.timestamp, UTC).isoformat(),
                **({} if session_id is None else {"session_id": session_id}),
            }
            for event, text in filled
            if event.id not in deleted
        ]
        await store(self._clients.asynchronous, blocks)

    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Store texts as they are given."""
        blocks = []
        for memory in memories:
            metadata = {**(custom_metadata or {}), **memory.custom_metadata}
            block = _block(app_name, user_id, _text(memory.content), memory.author, metadata)
            if memory.timestamp is not None:
                block["occurred_at"] = memory.timestamp
            if memory.id is not None:
                block["external_id"] = name_of(app_name, memory.id)
            blocks.append(block)
        await store(self._clients.asynchronous, blocks)

    async def search_memory(
        self, *, app_name: str, user_id: str, query: str
    ) -> SearchMemoryResponse:
        """The most relevant memories, best first."""
        if not query.strip():
            return SearchMemoryResponse(memories=[])
        found = await self._clients.asynchronous.search(
            query, user_id=user_id, limit=self._limit, filters={"agent_id": app_name}
        )
        return SearchMemoryResponse(memories=[_entry(hit.block) for hit in found.results])

    async def delete_memory(
        self, *, app_name: str, user_id: str, memory_id: str | None = None
    ) -> None:
        """Delete one memory; adding its session again does not bring it back."""
        try:
            block_id = UUID(memory_id or "")
            block = await self._clients.asynchronous.get_block(block_id, user_id=user_id)
        except (ValueError, NotFound):
            return
        if block.agent_id != app_name:
            return
        if block.external_id is not None:
            await self._clients.asynchronous.put_item(
                [_DELETED], block.external_id, {}, user_id=user_id, index=False
            )
        await self._clients.asynchronous.delete_block(block_id, user_id=user_id)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    async def _deleted(self, app_name: str, user_id: str, event_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(event_ids), _BATCH):
            batch = event_ids[start : start + _BATCH]
            response = await self._clients.asynchronous.batch_items(
                [
                    {"op": "get", "namespace": [_DELETED], "key": name_of(app_name, event_id)}
                    for event_id in batch
                ],
                user_id=user_id,
            )
            found |= {e for e, r in zip(batch, response.results, strict=True) if r.item is not None}
        return found


def _block(
    app_name: str,
    user_id: str,
    text: str,
    author: str | None,
    metadata: Mapping[str, object] | None,
) -> dict[str, Any]:
    block: dict[str, Any] = {
        "user_id": user_id,
        "agent_id": app_name,
        "content": text,
        "source": _SOURCE,
    }
    if author:
        block["speaker"] = author
    if metadata:
        block["metadata"] = dict(metadata)
    return block


def _text(content: types.Content | None) -> str:
    parts = (content and content.parts) or []
    return "\n".join(part.text for part in parts if part.text and not part.thought)


def _entry(block: BlockBody) -> MemoryEntry:
    return MemoryEntry(
        id=str(block.id),
        content=types.Content(role="user", parts=[types.Part(text=block.content)]),
        author=block.speaker,
        timestamp=block.occurred_at.isoformat(),
        custom_metadata=block.metadata,
    )
