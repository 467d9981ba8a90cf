"""A session of the OpenAI Agents SDK, with its history kept as items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import uuid4

from luma_memory.client import PreconditionFailed
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.protocol.items import ItemBody

try:
    from agents.items import TResponseInputItem
    from agents.memory.session import SessionABC
    from agents.memory.session_settings import SessionSettings, resolve_session_limit
except ModuleNotFoundError as error:
    raise extra_missing(error, "openai-agents") from error

_NAMESPACE: Final = "sessions"
_PAGE: Final = 1_000
_BATCH: Final = 500


class LumaSession(SessionABC):
    """The history of one conversation; see docs/integrations/openai-agents.md.

    session_id: 1 to 128 characters. url, api_key: of the service. user_id: whose conversation. An
    item is returned as it was added, and is stored as a JSON string of at most 256 KB. Any number
    of writers may append: their items are in the order of commits, and those of one call stay
    together (up to 500).
    """

    def __init__(
        self,
        session_id: str,
        url: str,
        api_key: str | None = None,
        *,
        user_id: str = "default",
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._clients = Clients(url, api_key)
        self._user_id = user_id

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The history in its order; with a limit, its latest items."""
        count = resolve_session_limit(limit, self.session_settings)
        if count == 0:
            return []
        found: list[ItemBody] = []
        cursor: str | None = None
        while True:
            is_bounded = count is not None and count > 0
            left = count - len(found) if is_bounded and count is not None else _PAGE
            page = await self._clients.asynchronous.search_items(
                self._namespace,
                user_id=self._user_id,
                exact=True,
                limit=min(left, _PAGE),
                cursor=cursor,
            )
            found += page.items
            cursor = page.next_cursor
            if cursor is None or (is_bounded and len(found) == count):
                return [_loaded(item) for item in reversed(found)]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items to the history, in one transaction for up to 500."""
        puts = [self._put(item) for item in items]
        for batch in _batches(puts):
            await self._run(batch)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the latest item; no other caller gets it too."""
        while True:
            page = await self._clients.asynchronous.search_items(
                self._namespace, user_id=self._user_id, exact=True, limit=1
            )
            if not page.items:
                return None
            (item,) = page.items
            try:
                await self._clients.asynchronous.delete_item(
                    self._namespace, item.key, user_id=self._user_id, etag=item.etag
                )
            except PreconditionFailed:
                continue  # another caller has popped it
            return _loaded(item)

    async def clear_session(self) -> None:
        """Delete the history."""
        found = self._clients.asynchronous.iterate_items(
            self._namespace, user_id=self._user_id, exact=True, page_size=_PAGE
        )
        deletions = [{"op": "delete", **self._name(item.key)} async for item in found]
        for batch in _batches(deletions):
            await self._run(batch)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    @property
    def _namespace(self) -> list[str]:
        return [_NAMESPACE, self.session_id]

    def _name(self, key: str) -> dict[str, Any]:
        return {"namespace": self._namespace, "key": key}

    def _put(self, item: TResponseInputItem) -> dict[str, Any]:
        # As text: the order of members and every number and character stay as they are.
        value = {"item": json.dumps(item)}
        return {"op": "put", **self._name(uuid4().hex), "value": value, "index": False}

    async def _run(self, operations: Sequence[dict[str, Any]]) -> None:
        response = await self._clients.asynchronous.batch_items(operations, user_id=self._user_id)
        for result in response.results:
            if result.error is not None:
                raise ValueError(f"{result.error.detail} ({result.error.code})")


def _loaded(item: ItemBody) -> TResponseInputItem:
    loaded: TResponseInputItem = json.loads(item.value["item"])
    return loaded


def _batches(operations: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(operations), _BATCH):
        yield operations[start : start + _BATCH]
