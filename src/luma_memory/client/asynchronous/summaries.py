"""Weekly summaries of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import read, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.protocol.summaries import SummaryBody, SummaryPageBody

# The service gives a model 20 s, then summarizes without one.
_SUMMARY_SECONDS: Final = 60.0


class Summaries(Connection):
    """Weekly summaries of one user, on the user's own calendar."""

    async def list_summaries(
        self,
        user_id: str,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SummaryPageBody:
        """One page of a user's summaries, the newest week first.

        since, until: the first and the last week (2026-W10), or a day in it.
        """
        call = read(
            "/summaries", user_id=user_id, since=since, until=until, limit=limit, cursor=cursor
        )
        return parsed(SummaryPageBody, await self._send(call))

    async def iterate_summaries(
        self,
        user_id: str,
        *,
        since: str | None = None,
        until: str | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[SummaryBody]:
        """All summaries that `list_summaries` has, fetched page by page."""
        cursor: str | None = None
        while True:
            page = await self.list_summaries(
                user_id, since=since, until=until, limit=page_size, cursor=cursor
            )
            for summary in page.summaries:
                yield summary
            if (cursor := page.next_cursor) is None:
                return

    async def make_summary(
        self, user_id: str, *, week: str | None = None, idempotency_key: str | None = None
    ) -> SummaryBody:
        """Summarize a week now, replacing an existing summary.

        week: an ISO week (2026-W10) or a day in it; None for the last completed week.
        Raises NotFound (code week_empty) if the user has no active blocks in it.
        """
        call = write(
            "POST",
            "/summaries",
            without_none(user_id=user_id, week=week),
            idempotency_key=idempotency_key,
            timeout_seconds=_SUMMARY_SECONDS,
        )
        return parsed(SummaryBody, await self._send(call))
