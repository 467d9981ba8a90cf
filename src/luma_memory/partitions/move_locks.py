"""What may be done while no command moves partitions: backups, and the end of a move whose command
was killed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from luma_memory.domain.errors import Conflict
from luma_memory.domain.partition import Partition
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.errors import translated
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.partition_moves import PartitionMoves

_SQL: Final = SqlFile("luma_memory.partitions.moving")


@contextlib.asynccontextmanager
async def no_moves(home: Database) -> AsyncIterator[None]:
    """No command moves partitions or users meanwhile. Raises Conflict if one does."""
    holder = await home.dedicated()
    try:
        with translated():
            if not await holder.fetchval(_SQL["lock_moves"]):
                raise Conflict("Another command moves partitions now", code="move_runs")
        yield
    finally:
        holder.terminate()


async def finish_move(home: Database, partition: Partition) -> None:
    """Write down the new place of a partition whose move is complete, as its command is gone.

    Does nothing while a command works on moves.
    """
    moves = PartitionMoves(home)
    record = await moves.read(partition.number)
    if record is None or record.phase != "switching":
        return
    source = home.beside(schema=partition.schema, dsn=partition.dsn)
    holder = await home.dedicated()
    try:
        with translated():
            if not await holder.fetchval(_SQL["lock_moves"]):
                return
        row = await source.fetch_row(_SQL["has_schema"], quoted_name(record.old_schema))
        if row is not None and row["has_schema"]:
            await moves.switch(record)
    finally:
        holder.terminate()
        await source.close()
