"""Waiting until a block is enriched."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pydantic import BaseModel

from luma_memory.domain.block import BlockStatus
from luma_memory.domain.errors import ProviderResponseInvalid, RejectedError, UnavailableError
from luma_memory.protocol.blocks import AcceptedBody, BlockBody

# A job has 30 s, and another attempt after a pause.
ENRICHED_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 1.0


class Accepted(BaseModel):
    """The fields of every response to an accepted block, enriched or not."""

    id: UUID
    status: BlockStatus
    job_id: int | None
    duplicate: bool | None = None

    def body(self) -> AcceptedBody:
        """Raises ProviderResponseInvalid (code unknown_answer) if there is no job."""
        if self.job_id is None:
            raise ProviderResponseInvalid(
                f"The response names no job for the block {self.id}", code="unknown_answer"
            )
        return AcceptedBody(
            id=self.id, status=self.status, job_id=self.job_id, duplicate=self.duplicate
        )


def is_enriched(block: BlockBody) -> bool:
    """Whether the block is active. Raises RejectedError if its enrichment failed."""
    if block.status == "failed":
        raise RejectedError(
            f"The block {block.id} could not be enriched: {block.error or 'no reason given'}",
            code="enrichment_failed",
        )
    return block.status == "active"


def still_pending(block_id: UUID, seconds: float) -> UnavailableError:
    return UnavailableError(
        f"The block {block_id} is stored, but not yet enriched after {seconds:g} s",
        code="still_pending",
    )


def next_pause(last_seconds: float) -> float:
    """The pause between two checks: short at first, for local providers, then longer."""
    return min(max(last_seconds * 1.5, _FIRST_PAUSE_SECONDS), _PAUSE_SECONDS_MAX)
