"""Which embedding models a database holds, their calibration, and re-embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import Calibration


@dataclass(frozen=True, slots=True)
class StalePassage:
    """A passage that has no vector of the requested model."""

    block_id: UUID
    ordinal: int
    revision: int  # of the block as it was read
    speaker: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ReembedProgress:
    """How far a change of the embedding model has come, in passages."""

    requested: bool  # and not finished
    total: int
    done: int  # of the requested model, in use or ready for it


@dataclass(frozen=True, slots=True)
class ReembedState:
    """A change of the embedding model in progress."""

    model_id: str  # the requested model
    progress: ReembedProgress | None  # None: not counted yet


class VectorModels(Protocol):
    """The models of the stored vectors, their calibrations, and a change of the model in progress.

    All methods raise StoreUnavailable.
    """

    async def register(self, model_id: str) -> None:
        """Register the model of vectors computed from now on."""
        ...

    async def in_use(self) -> Sequence[str]:
        """Models that vectors may still be of, the one used longest first."""
        ...

    async def of_scope(self, scope: Scope) -> str | None:
        """The model of the scope; None for the first model in use."""
        ...

    async def calibration(self, model_id: str) -> Calibration | None:
        """None if it was not measured yet."""
        ...

    async def store_calibration(self, model_id: str, calibration: Calibration) -> None:
        """Store the calibration of a registered model; the first one stays."""
        ...

    async def request(self, model_id: str) -> None:
        """Request that all vectors are of this model. A repeated request changes nothing."""
        ...

    async def requested(self) -> str | None:
        """The requested model, as long as the switch to it is not finished."""
        ...

    async def enqueue(self, model_id: str, *, limit: int, circuits: Sequence[str]) -> int:
        """Jobs for up to `limit` scopes with stale passages, when no such job is left; how many.

        If none is stale any more, the switch is finished and other models retire. Nothing is
        done unless this model is requested, and while one of these circuits is open.
        """
        ...

    async def stale(self, scope: Scope, model_id: str, *, limit: int) -> Sequence[StalePassage]:
        """Some of the scope's passages that have no vector of this model yet."""
        ...

    async def put(
        self, scope: Scope, model_id: str, vectors: Sequence[tuple[StalePassage, Vector | None]]
    ) -> None:
        """Store vectors next to those in use; None for a text the model refused."""
        ...

    async def switch(self, scope: Scope, model_id: str) -> None:
        """Switch the whole scope to the stored vectors at once."""
        ...

    async def progress(self, model_id: str) -> ReembedProgress:
        """The progress; reads all passages."""
        ...
