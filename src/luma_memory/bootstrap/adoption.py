"""Split a database with users into partitions, and unite it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luma_memory.bootstrap.database import operators_database
from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.errors import Conflict
from luma_memory.domain.partition import Partition, layout_of
from luma_memory.partitions.adopting import Adoption, AdoptionReport, AdoptionStep
from luma_memory.postgres.database import Database
from luma_memory.settings import Settings
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.store.schema_nodes import node_of

__all__ = ["AdoptionReport", "AdoptionStep", "adopt_users", "return_users"]


async def adopt_users(
    settings: Settings, count: int, prefix: str, *, on_step: Callable[[AdoptionStep], None]
) -> AdoptionReport:
    """Create the partitions unless they exist, and move users to them.

    Raises as `operators_database`, `Partitions.create` and `Adoption.adopt`.
    """
    async with operators_database(settings) as home:
        known = await PartitionDirectory(home).partitions()
        await _check_not_distributed(home, known)
        if layout_of(known) is None or len(known) != count:
            for one in await Partitions(home).create(count, prefix):
                if one.error is not None:
                    raise one.error
        return await Adoption(home, on_step=on_step).adopt()


async def _check_not_distributed(home: Database, partitions: Sequence[Partition]) -> None:
    for partition in partitions[1:]:
        if await node_of(home, partition.schema) is not None:
            raise Conflict(
                "Users cannot be moved to or from partitions that Citus has placed: export them,"
                " and import them into an installation with the partitions that you want",
                code="distributed",
            )


async def return_users(
    settings: Settings, *, on_step: Callable[[AdoptionStep], None]
) -> AdoptionReport:
    """Raises as `operators_database` and `Adoption.return_users`."""
    async with operators_database(settings) as home:
        known = await PartitionDirectory(home).partitions()
        if not known:
            raise Conflict("There is one partition only", code="partitions_missing")
        await _check_not_distributed(home, known)
        return await Adoption(home, on_step=on_step).return_users()
