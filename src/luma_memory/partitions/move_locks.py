"""The lock of all commands that move partitions or users: one of them works at a time.

Moves hold it, and backups; a process that finishes the move of a killed command takes it if it is
free.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from luma_memory.domain.errors import Conflict
from luma_memory.domain.partition import Partition
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.errors import UNAVAILABLE, translated
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.partition_moves import PartitionMoves

_SQL: Final = SqlFile("luma_memory.partitions.moving")
_CLOSE_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def no_moves(home: Database) -> AsyncIterator[asyncpg.Connection]:
    """No other command moves partitions or users meanwhile. Raises Conflict if one does.

    Yields the session of the home partition that holds the lock.
    """
    async with _lock_of_moves(home) as holder:
        if holder is None:
            raise Conflict("Another command moves partitions now", code="move_runs")
        yield holder


@contextlib.asynccontextmanager
async def _lock_of_moves(home: Database) -> AsyncIterator[asyncpg.Connection | None]:
    """The session that holds it; None if another one does."""
    holder = await home.dedicated()
    try:
        with translated():
            is_own = await holder.fetchval(_SQL["lock_moves"])
        yield holder if is_own else None
    finally:
        # The server is waited for: the lock is free when the command ends, for the next one.
        with contextlib.suppress(*UNAVAILABLE):
            await holder.close(timeout=_CLOSE_SECONDS)


async def finish_move(home: Database, partition: Partition) -> None:
    """Write down the new place of a partition whose move is complete, as its command is gone.

    Does nothing while a command works on moves.
    """
    moves = PartitionMoves(home)
    record = await moves.read(partition.number)
    if record is None or record.phase != "switching":
        return
    async with _lock_of_moves(home) as holder:
        if holder is None:
            return
        source = home.beside(schema=partition.schema, dsn=partition.dsn)
        try:
            row = await source.fetch_row(_SQL["has_schema"], quoted_name(record.old_schema))
            if row is not None and row["has_schema"]:
                await moves.switch(record)
        finally:
            await source.close()
