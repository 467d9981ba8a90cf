"""The HTTP client of the commands: the SDK's client, with calls that only commands need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, SecretStr

from luma_memory.client import NO_RETRIES, AsyncMemoryClient, Retries
from luma_memory.client.calls import Call, ask, read, write
from luma_memory.client.responses import parsed
from luma_memory.client.retries import NEVER_SENT
from luma_memory.domain.block import BlockStatus
from luma_memory.domain.errors import Unauthenticated, UnavailableError
from luma_memory.domain.job import OPEN, JobType
from luma_memory.protocol.blocks import BlockBody, BlockPageBody
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.search import SearchResponse

_TIMEOUT_SECONDS: Final = 60.0
_PAGE_ENTRIES: Final = 200
# Longer than any pause between two attempts of a job during an evaluation.
_SOON: Final = timedelta(minutes=10)
_RETRIES: Final = Retries(attempts_max=5, seconds_max=60.0, first_pause_seconds=0.5)
# Through a restart of the database: for commands that run for hours.
LONG_RETRIES: Final = Retries(attempts_max=30, seconds_max=120.0, first_pause_seconds=0.5)


class Stored(BaseModel):
    """The common fields of responses to an accepted block, enriched or not."""

    id: UUID
    status: BlockStatus


class ServiceClient(AsyncMemoryClient):
    """Calls to one service. Raises LumaMemoryError, with the service's own message if there is one.

    Calls that are safe to repeat are retried, except for the first one: a service that does not run
    is reported at once.
    """

    def __init__(
        self, base_url: str, *, api_key: SecretStr | None, retries: Retries = _RETRIES
    ) -> None:
        super().__init__(
            base_url, api_key=api_key, timeout_seconds=_TIMEOUT_SECONDS, retries=NO_RETRIES
        )
        self._later_retries = retries

    async def live(self) -> None:
        """Check that this service responds. Raises UnavailableError or SetupError."""
        await self._send(read("/health/live"))

    async def may_erase(self) -> None:
        """Check that the key has the admin permission, which this read needs. Raises Forbidden."""
        await self._send(read("/metrics"))

    async def accept(self, block: Mapping[str, Any]) -> Stored:
        """Store one block."""
        return parsed(
            Stored, await self._send(write("POST", "/blocks", block, idempotency_key=None))
        )

    async def has_jobs_due(self, user_id: str, *job_types: JobType) -> bool:
        """Whether a job of these types is running for the user, or the newest one is due soon."""
        soon = datetime.now(UTC) + _SOON
        for job_type, status in product(job_types, OPEN):
            page = await self.list_jobs(user_id=user_id, job_type=job_type, status=status, limit=1)
            if page.jobs and (status == "processing" or page.jobs[0].run_at < soon):
                return True
        return False

    async def ask_search(self, body: Mapping[str, Any]) -> SearchResponse:
        """The blocks that response; `body` as in `protocol.search.SearchBody`."""
        return parsed(SearchResponse, await self._send(ask("/search", body)))

    async def ask_context(
        self, body: Mapping[str, Any], *, is_probe: bool = False
    ) -> ContextResponse:
        """The context of a question; `body` as in `protocol.context.ContextBody`.

        is_probe: leave it out of the hit rate.
        """
        call = ask("/context", body)
        if is_probe:
            call = replace(call, headers={**call.headers, "Memory-Probe": "true"})
        return parsed(ContextResponse, await self._send(call))

    async def all_blocks(self, user_id: str, *, limit: int) -> list[BlockBody]:
        """A user's newest blocks, page by page."""
        blocks: list[BlockBody] = []
        cursor: str | None = None
        while len(blocks) < limit:
            call = read("/blocks", user_id=user_id, cursor=cursor, limit=_PAGE_ENTRIES)
            page = parsed(BlockPageBody, await self._send(call))
            blocks += page.blocks
            cursor = page.next_cursor
            if cursor is None:
                break
        return blocks[:limit]

    async def _send(self, call: Call) -> bytes:
        try:
            response = await super()._send(call)
        except Unauthenticated as error:
            raise Unauthenticated(
                f"{error}. Set MEMORY_API_KEY to a key of this service; `luma-memory keys create`"
                " makes one",
                code=error.code,
            ) from error
        except UnavailableError as error:
            if error.code != NEVER_SENT:
                raise
            raise UnavailableError(
                f"No service is listening at {self._address.shown}: start one with"
                " `luma-memory up`, or set its address with --url",
                code=NEVER_SENT,
            ) from error
        self._retries = self._later_retries
        return response
