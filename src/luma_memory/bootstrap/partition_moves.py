"""Move partitions between schemas and servers."""

from __future__ import annotations

from collections.abc import Callable

from luma_memory.bootstrap.database import operators_database
from luma_memory.domain.errors import Conflict
from luma_memory.partitions.moving import MoveReport, MoveStep, PartitionMove
from luma_memory.partitions.schema_moves import SchemaMove, SchemaMoveReport
from luma_memory.settings import Settings
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.store.schema_nodes import MoveProgress, node_of

__all__ = [
    "MoveProgress",
    "MoveReport",
    "MoveStep",
    "SchemaMoveReport",
    "move_partition",
    "move_schema",
    "undo_move",
]


async def move_schema(
    settings: Settings, number: int, node: str, *, on_progress: Callable[[MoveProgress], None]
) -> SchemaMoveReport:
    """To another node of the Citus cluster. Raises as `operators_database` and `SchemaMove.run`."""
    async with operators_database(settings) as home:
        return await SchemaMove(home, number, on_progress=on_progress).run(node)


async def move_partition(
    settings: Settings,
    number: int,
    address: str,
    schema: str | None,
    *,
    drop_old: bool,
    on_step: Callable[[MoveStep], None],
) -> MoveReport:
    """Raises as `operators_database` and `PartitionMove.run`."""
    async with operators_database(settings) as home:
        for one in await PartitionDirectory(home).partitions():
            if one.number == number and await node_of(home, one.schema) is not None:
                raise Conflict(
                    f"Citus has placed partition {number}: give a node, as host:port",
                    code="distributed",
                )
        move = PartitionMove(home, number, on_step=on_step)
        return await move.run(address, schema, drop_old=drop_old)


async def undo_move(settings: Settings, number: int) -> None:
    """Raises as `operators_database` and `PartitionMove.undo`."""
    async with operators_database(settings) as home:
        await PartitionMove(home, number).undo()
