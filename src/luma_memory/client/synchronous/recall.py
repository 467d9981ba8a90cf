# Generated from recall.py in `asynchronous`; change it there, then `make format`.

"""Recall: search and context."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from luma_memory.client.calls import ask, without_none
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.search import Ranking
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.search import SearchResponse

# Network time in addition to the service's own timeout.
_NETWORK_SECONDS = 5.0


class Recall(Connection):
    """Queries over one user's blocks. A parameter that is None has the service's default."""

    def search(
        self,
        query: str,
        *,
        user_id: str,
        limit: int | None = None,
        filters: Mapping[str, Any] | None = None,
        as_of: datetime | None = None,
        include_superseded: bool | None = None,
        include_items: bool | None = None,
        timeout_ms: int | None = None,
        ranking: Ranking | None = None,
        relevant_only: bool | None = None,
        use_relations: bool | None = None,
        explain: bool | None = None,
    ) -> SearchResponse:
        """The most relevant blocks, best first, ranked by meaning and by terms."""
        body = without_none(
            user_id=user_id,
            query=query,
            limit=limit,
            filters=filters,
            as_of=as_of,
            include_superseded=include_superseded,
            include_items=include_items,
            timeout_ms=timeout_ms,
            ranking=ranking,
            relevant_only=relevant_only,
            use_relations=use_relations,
            explain=explain,
        )
        call = ask("/search", body, timeout_seconds=_call_timeout(timeout_ms))
        return parsed(SearchResponse, self._send(call))

    def get_context(
        self,
        query: str,
        *,
        user_id: str,
        max_blocks: int | None = None,
        token_budget: int | None = None,
        synthesize: bool | None = None,
        relevant_only: bool | None = None,
        include_items: bool | None = None,
        timeout_ms: int | None = None,
    ) -> ContextResponse:
        """A text for a prompt within `token_budget`, with its blocks and citations."""
        body = without_none(
            user_id=user_id,
            query=query,
            max_blocks=max_blocks,
            token_budget=token_budget,
            synthesize=synthesize,
            relevant_only=relevant_only,
            include_items=include_items,
            timeout_ms=timeout_ms,
        )
        call = ask("/context", body, timeout_seconds=_call_timeout(timeout_ms))
        return parsed(ContextResponse, self._send(call))


def _call_timeout(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000 + _NETWORK_SECONDS
