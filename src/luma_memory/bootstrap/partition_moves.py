"""Move partitions between schemas and servers."""

from __future__ import annotations

from collections.abc import Callable

from luma_memory.bootstrap.database import operators_database
from luma_memory.partitions.moving import MoveReport, MoveStep, PartitionMove
from luma_memory.settings import Settings

__all__ = ["MoveReport", "MoveStep", "move_partition", "undo_move"]


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
        move = PartitionMove(home, number, on_step=on_step)
        return await move.run(address, schema, drop_old=drop_old)


async def undo_move(settings: Settings, number: int) -> None:
    """Raises as `operators_database` and `PartitionMove.undo`."""
    async with operators_database(settings) as home:
        await PartitionMove(home, number).undo()
