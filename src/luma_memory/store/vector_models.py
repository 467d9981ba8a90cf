"""Models of the stored vectors, their calibrations and their switch, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import Calibration
from luma_memory.ports.vector_models import ReembedProgress, StalePassage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.vectors import encode_halfvec

_SQL = SqlFile(__name__)


class PostgresVectorModels:
    """`ports.vector_models.VectorModels`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, model_id: str) -> None:
        await self._database.execute(_SQL["register_model"], model_id)

    async def in_use(self) -> Sequence[str]:
        rows = await self._database.fetch(_SQL["models_in_use"])
        return [row["id"] for row in rows]

    async def of_scope(self, scope: Scope) -> str | None:
        row = await self._database.fetch_row(_SQL["scope_model"], scope.project_id, scope.user_id)
        return None if row is None else str(row["model"])

    async def calibration(self, model_id: str) -> Calibration | None:
        row = await self._database.fetch_row(_SQL["read_calibration"], model_id)
        return None if row is None else Calibration(row["mean"], row["deviation"])

    async def store_calibration(self, model_id: str, calibration: Calibration) -> None:
        await self._database.execute(
            _SQL["store_calibration"],
            model_id,
            calibration.mean,
            calibration.deviation,
        )

    async def request(self, model_id: str) -> None:
        await self._database.execute(_SQL["request_model"], model_id)

    async def requested(self) -> str | None:
        row = await self._database.fetch_row(_SQL["requested_model"])
        return None if row is None else str(row["id"])

    async def enqueue(self, model_id: str, *, limit: int, circuits: Sequence[str]) -> int:
        row = await self._database.fetch_row(
            _SQL["enqueue_reembeds"], model_id, limit, list(circuits)
        )
        assert row is not None
        return int(row["made"])

    async def stale(self, scope: Scope, model_id: str, *, limit: int) -> Sequence[StalePassage]:
        rows = await self._database.fetch(
            _SQL["stale_passages"],
            scope.project_id,
            scope.user_id,
            model_id,
            limit,
        )
        return [StalePassage(**dict(row)) for row in rows]

    async def put(
        self, scope: Scope, model_id: str, vectors: Sequence[tuple[StalePassage, Vector | None]]
    ) -> None:
        await self._database.execute(
            _SQL["store_next_vectors"],
            scope.project_id,
            scope.user_id,
            model_id,
            [passage.block_id for passage, _ in vectors],
            [passage.ordinal for passage, _ in vectors],
            [passage.revision for passage, _ in vectors],
            [None if vector is None else encode_halfvec(vector) for _, vector in vectors],
        )

    async def switch(self, scope: Scope, model_id: str) -> None:
        await self._database.fetch_row(
            _SQL["switch_vectors"], scope.project_id, scope.user_id, model_id
        )
        # A statement of its own: in the one above it would lock the user's row until that ends, and
        # their next block could not be accepted meanwhile.
        await self._database.execute(_SQL["bump_scope_version"], scope.project_id, scope.user_id)

    async def progress(self, model_id: str) -> ReembedProgress:
        row = await self._database.fetch_row(_SQL["reembed_progress"], model_id)
        assert row is not None
        return ReembedProgress(**dict(row))
