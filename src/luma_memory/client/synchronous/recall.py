# Generated from recall.py in `asynchronous`; change it there, then `make format`.

"""Recall: a question in, the blocks that matter out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from luma_memory.client.calls import ask, said
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.search import Ranking
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.search import SearchResponse

# For the way there and back, beside the time the service is given.
_BESIDE_SECONDS = 5.0


class Recall(Connection):
    """Questions to the blocks of one user. What is None is as the service has it by default."""

    def search(
        self,
        query: str,
        *,
        user_id: str,
        limit: int | None = None,
        filters: Mapping[str, Any] | None = None,
        as_of: datetime | None = None,
        include_superseded: bool | None = None,
        timeout_ms: int | None = None,
        ranking: Ranking | None = None,
        relevant_only: bool | None = None,
        use_relations: bool | None = None,
        explain: bool | None = None,
    ) -> SearchResponse:
        """The blocks that answer best, best first, by meaning and by words."""
        body = said(
            user_id=user_id,
            query=query,
            limit=limit,
            filters=filters,
            as_of=as_of,
            include_superseded=include_superseded,
            timeout_ms=timeout_ms,
            ranking=ranking,
            relevant_only=relevant_only,
            use_relations=use_relations,
            explain=explain,
        )
        call = ask("/search", body, timeout_seconds=_patience(timeout_ms))
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
        timeout_ms: int | None = None,
    ) -> ContextResponse:
        """A text for a prompt within `token_budget`, with its blocks and citations."""
        body = said(
            user_id=user_id,
            query=query,
            max_blocks=max_blocks,
            token_budget=token_budget,
            synthesize=synthesize,
            relevant_only=relevant_only,
            timeout_ms=timeout_ms,
        )
        call = ask("/context", body, timeout_seconds=_patience(timeout_ms))
        return parsed(ContextResponse, self._send(call))


def _patience(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000 + _BESIDE_SECONDS
