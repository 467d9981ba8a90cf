"""Split a database with users into partitions, and unite it."""

from __future__ import annotations

from collections.abc import Callable

from luma_memory.bootstrap.database import operators_database
from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.errors import Conflict
from luma_memory.domain.partition import layout_of
from luma_memory.partitions.adopting import Adoption, AdoptionReport, AdoptionStep
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
        for partition in known[1:]:
            if await node_of(home, partition.schema) is not None:
                raise Conflict(
                    "Users cannot be moved to partitions that Citus has placed: export them, and"
                    " import them into an installation that began with such partitions",
                    code="distributed",
                )
        if layout_of(known) is None or len(known) != count:
            for one in await Partitions(home).create(count, prefix):
                if one.error is not None:
                    raise one.error
        return await Adoption(home, on_step=on_step).adopt()


async def return_users(
    settings: Settings, *, on_step: Callable[[AdoptionStep], None]
) -> AdoptionReport:
    """Raises as `operators_database` and `Adoption.return_users`."""
    async with operators_database(settings) as home:
        if not await PartitionDirectory(home).partitions():
            raise Conflict("There is one partition only", code="partitions_missing")
        return await Adoption(home, on_step=on_step).return_users()
