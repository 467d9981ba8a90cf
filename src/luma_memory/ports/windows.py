"""Windows of session turns that are embedded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from luma_memory.domain.scope import Scope
from luma_memory.domain.windows import MadeWindow, Place, Turn


class WindowStore(Protocol):
    """Sessions, and the vectors of windows over their turns. All methods raise StoreUnavailable."""

    async def turns(
        self, scope: Scope, session_id: str, start: Place, *, limit: int, before: int, text: int
    ) -> Sequence[Turn]:
        """Turns from `start` on and some before it, in order; `text` characters of each."""
        ...

    async def sessions(self, scope: Scope, *, after: str, limit: int) -> Sequence[str]:
        """Names of the scope's sessions after one, in order."""
        ...

    async def store(
        self,
        scope: Scope,
        made: Sequence[MadeWindow],
        *,
        embedding_model: str,
        dropped: Sequence[UUID],
        turns: Sequence[UUID],
    ) -> None:
        """Store windows with the blocks they end with, drop those of others, in one statement.

        turns: all blocks that were read; their missing data for recall is added.
        """
        ...
