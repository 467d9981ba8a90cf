"""Unfinished moves of partitions, in the home partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)
MovePhase = Literal["copying", "following", "switching"]


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """Where a partition is being moved to, and how far that is."""

    number: int
    move_id: UUID
    schema: str
    dsn: str | None = field(repr=False)  # None: the address of the home partition
    old_schema: str  # the old schema's name after the move
    phase: MovePhase
    rows: int
    bytes: int
    rounds: int


class PartitionMoves:
    """Methods raise StoreUnavailable and SetupError."""

    def __init__(self, home: Database) -> None:
        self._home = home

    async def read(self, number: int) -> MoveRecord | None:
        row = await self._home.fetch_row(_SQL["read_move"], number)
        return None if row is None else MoveRecord(**dict(row))

    async def all(self) -> Sequence[MoveRecord]:
        return [MoveRecord(**dict(row)) for row in await self._home.fetch(_SQL["list_moves"])]

    async def begin(
        self, number: int, *, schema: str, dsn: str | None, old_schema: str
    ) -> MoveRecord:
        await self._home.execute(_SQL["begin_move"], number, schema, dsn, old_schema)
        record = await self.read(number)
        assert record is not None
        return record

    async def note(
        self, number: int, phase: MovePhase, *, rows: int, bytes_: int, rounds: int
    ) -> None:
        await self._home.execute(_SQL["note_move"], number, phase, rows, bytes_, rounds)

    async def end(self, number: int) -> None:
        """Idempotent."""
        await self._home.execute(_SQL["end_move"], number)

    async def switch(self, record: MoveRecord) -> None:
        """All processes use the new place from now on; the move is over."""
        async with self._home.transaction():
            await self._home.execute(_SQL["switch_place"], record.number, record.dsn, record.schema)
            await self._home.execute(_SQL["end_move"], record.number)
            await self._home.execute(_SQL["announce_move"])
