"""Which embedding models a database holds, their calibration, and re-embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import Calibration


class VectorModels(Protocol):
    """Which models the stored vectors are of. All methods raise StoreUnavailable."""

    async def register(self, model_id: str) -> None:
        """This model makes vectors from now on."""
        ...

    async def in_use(self) -> Sequence[str]:
        """Models that vectors may still be of, the one used longest first."""
        ...

    async def of_scope(self, scope: Scope) -> str | None:
        """The scope's own; None is the first of those in use."""
        ...


class CalibrationStore(Protocol):
    """What is known of embedding models' cosines. All methods raise StoreUnavailable."""

    async def background(self, model_id: str) -> Calibration | None:
        """None where it was not measured yet."""
        ...

    async def store_calibration(self, model_id: str, background: Calibration) -> None:
        """Keep what was measured of a registered model; the first measurement stays."""
        ...


@dataclass(frozen=True, slots=True)
class StalePassage:
    """A passage that has no vector of the wanted model."""

    block_id: UUID
    ordinal: int
    revision: int  # of the block as it was read
    speaker: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ReembedProgress:
    """How far a change of the embedding model has come, in passages."""

    wanted: bool  # asked for, and not finished
    total: int
    done: int  # of the wanted model, in use or ready for it


class ReembedStore(Protocol):
    """A change of the embedding model in progress. All methods raise StoreUnavailable."""

    async def want(self, model_id: str) -> None:
        """Have all vectors be of this model. Asking again changes nothing."""
        ...

    async def wanted(self) -> str | None:
        """The model that was asked for, while that is not finished."""
        ...

    async def enqueue(self, model_id: str, *, limit: int, circuits: Sequence[str]) -> int:
        """Jobs for up to `limit` scopes with stale passages, when no such job is left; how many.

        Where none is stale any more, the change is finished and other models retire. Nothing is
        done unless this model is wanted, and while one of these circuits is open.
        """
        ...

    async def stale(self, scope: Scope, model_id: str, *, limit: int) -> Sequence[StalePassage]:
        """Some of the scope's passages that have no vector of this model yet."""
        ...

    async def put(
        self, scope: Scope, model_id: str, vectors: Sequence[tuple[StalePassage, Vector | None]]
    ) -> None:
        """Keep vectors beside those in use; None where the model refuses the text."""
        ...

    async def switch(self, scope: Scope, model_id: str) -> None:
        """Put what was kept in use, all of the scope at once."""
        ...

    async def progress(self, model_id: str) -> ReembedProgress:
        """Reads all passages."""
        ...
