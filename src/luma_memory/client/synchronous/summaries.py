# Generated from summaries.py in `asynchronous`; change it there, then `make format`.

"""Weekly summaries: what a user's weeks came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from luma_memory.client.calls import read, said, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.protocol.summaries import SummaryBody, SummaryPageBody

# The service gives a model 20 s, and then tells the week without one.
_TOLD_SECONDS: Final = 60.0


class Summaries(Connection):
    """Weekly summaries of one user, on the user's own calendar."""

    def list_summaries(
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> SummaryPageBody:
        """One page of a user's summaries, the newest week first."""
        call = read("/summaries", user_id=user_id, limit=limit, cursor=cursor)
        return parsed(SummaryPageBody, self._send(call))

    def iterate_summaries(
        self, user_id: str, *, page_size: int | None = None
    ) -> Iterator[SummaryBody]:
        """All of a user's summaries, the newest week first, page by page."""
        cursor: str | None = None
        while True:
            page = self.list_summaries(user_id, limit=page_size, cursor=cursor)
            for summary in page.summaries:
                yield summary
            if (cursor := page.next_cursor) is None:
                return

    def make_summary(
        self, user_id: str, *, week: str | None = None, idempotency_key: str | None = None
    ) -> SummaryBody:
        """Tell a week now and store it, whatever was told of it before.

        week: an ISO week (2026-W10) or a day of it; None is the week that ended last.
        Raises NotFound (code week_empty) where the user has no active blocks in it.
        """
        call = write(
            "POST",
            "/summaries",
            said(user_id=user_id, week=week),
            idempotency_key=idempotency_key,
            timeout_seconds=_TOLD_SECONDS,
        )
        return parsed(SummaryBody, self._send(call))
