"""Create, list and migrate the partitions of an installation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from luma_memory.bootstrap.database import operators_database
from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import Conflict, LumaMemoryError, SetupError, StoreUnavailable
from luma_memory.domain.partition import ACTIVE_STATES, HOME, Partition, PartitionFacts, first_id
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import MigrationReport, migrate
from luma_memory.settings import Settings
from luma_memory.store.partition_moves import MoveRecord, PartitionMoves
from luma_memory.store.partitions import (
    PartitionDirectory,
    begin_ids,
    create_schema,
    partition_facts,
    prepare,
)
from luma_memory.store.schema_nodes import distribute as place_on_node
from luma_memory.store.schema_nodes import node_of, nodes
from luma_memory.store.secrets import shared_secrets

ResultT = TypeVar("ResultT")
# Each migration is one transaction on one core of its server.
_MIGRATED_AT_ONCE: Final = 4
_EXAMINED_AT_ONCE: Final = 16
# A partition that does not respond must not keep the others from being listed.
_EXAMINE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """A partition with what it holds, or why it could not be examined."""

    partition: Partition
    facts: PartitionFacts | None
    error: str | None = None
    move: MoveRecord | None = None  # unfinished
    node: str | None = None  # of a Citus cluster, as host:port


@dataclass(frozen=True, slots=True)
class PartitionMigration:
    """A partition with the result of its migration, or why it failed."""

    partition: Partition
    report: MigrationReport | None
    error: LumaMemoryError | None = None


class Partitions:
    """Operations on all partitions. The home partition's schema is current."""

    def __init__(self, home: Database) -> None:
        self._home = home
        self._directory = PartitionDirectory(home)

    async def create(
        self,
        count: int,
        prefix: str,
        addresses: Mapping[int, str] | None = None,
        *,
        distribute: bool = False,
    ) -> Sequence[PartitionMigration]:
        """Create what is missing of `count` partitions; may be repeated after an interruption.

        addresses: of partitions on other servers, by number; used when they are first planned.
        distribute: let the Citus cluster of the home partition place each on a node.

        Raises Invalid, Conflict (see `PartitionDirectory.plan`), SetupError, StoreUnavailable.
        """
        if distribute:
            await self._check_distributing()
        await self._directory.plan(count, prefix, addresses or {})
        done = await self._migrate((await self._directory.partitions())[1:], distribute=distribute)
        if all(one.error is None for one in done):
            await self._directory.spread_users()
        return done

    async def migrate(self) -> Sequence[PartitionMigration]:
        """Bring all partitions but the home partition to this version's schema, several at once.

        One that fails does not keep the others from it; may be repeated.
        """
        return await self._migrate((await self._directory.partitions())[1:])

    async def reports(self) -> Sequence[PartitionReport]:
        """All partitions in order; none if the home partition is the only one."""
        partitions = await self._directory.partitions()
        moves = {one.number: one for one in await PartitionMoves(self._home).all()}
        reports = await _limited(_EXAMINED_AT_ONCE, self._report, partitions)
        found = [await node_of(self._home, one.schema) for one in partitions]
        placed = [None if one is None else str(one) for one in found]
        return [
            replace(one, move=moves.get(one.partition.number), node=node)
            for one, node in zip(reports, placed, strict=True)
        ]

    async def is_spread(self) -> bool:
        """Whether users are spread over several partitions."""
        known = await self._directory.partitions()
        return bool(known) and all(one.state in ACTIVE_STATES for one in known)

    async def _check_distributing(self) -> None:
        if not await self._home.coordinates_nodes():
            raise Conflict(
                "DATABASE_URL leads to no Citus cluster: create the extension citus there and add"
                " its nodes, or leave --distribute out",
                code="no_citus",
            )
        if not await nodes(self._home):
            raise Conflict(
                "The Citus cluster has no node for partitions: add one with citus_add_node",
                code="no_citus",
            )
        for one in await self._directory.partitions():
            if one.number == HOME or one.state == "creating":
                continue
            if await node_of(self._home, one.schema) is None:
                raise Conflict(
                    f"Partition {one.number} was created without --distribute and cannot be"
                    " distributed afterwards",
                    code="not_distributed",
                )

    async def _migrate(
        self, partitions: Sequence[Partition], *, distribute: bool = False
    ) -> Sequence[PartitionMigration]:
        secrets = await shared_secrets(self._home) if partitions else {}

        async def migrate_one(partition: Partition) -> PartitionMigration:
            return await self._migrate_one(
                partition, len(partitions) + 1, secrets["receipts"], distribute=distribute
            )

        # Citus takes a lock of the whole cluster for each change of a distributed schema.
        is_cluster = bool(partitions) and await self._home.coordinates_nodes()
        return await _limited(1 if is_cluster else _MIGRATED_AT_ONCE, migrate_one, partitions)

    async def _migrate_one(
        self, partition: Partition, count: int, receipts: bytes, *, distribute: bool
    ) -> PartitionMigration:
        try:
            async with self._opened(partition) as database:
                await create_schema(database)
                report = await migrate(database)
                await prepare(database, partition.number, count, receipts)
                if distribute:
                    await place_on_node(database)
                    await begin_ids(database, first_id(partition.number))
            await self._directory.set_prepared(partition.number)
        except (SetupError, StoreUnavailable) as error:
            return PartitionMigration(partition, None, error)
        return PartitionMigration(partition, report)

    async def _report(self, partition: Partition) -> PartitionReport:
        try:
            async with self._opened(partition) as database:
                facts = await within(partition_facts(database), _EXAMINE_SECONDS)
        except TimeoutError:
            return PartitionReport(partition, None, "PostgreSQL does not respond")
        except (SetupError, StoreUnavailable) as error:
            return PartitionReport(partition, None, str(error))
        return PartitionReport(partition, facts)

    @asynccontextmanager
    async def _opened(self, partition: Partition) -> AsyncIterator[Database]:
        if partition.number == HOME:
            yield self._home
            return
        database = self._home.beside(schema=partition.schema, dsn=partition.dsn)
        try:
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def open_partitions(settings: Settings) -> AsyncIterator[Partitions]:
    """Raises as `operators_database`."""
    async with operators_database(settings) as home:
        yield Partitions(home)


async def migrate_partitions(settings: Settings, dsn: str) -> Sequence[PartitionMigration]:
    """All partitions but the home partition, which is current. Raises StoreUnavailable for that."""
    home = Database(dsn, pool_size=1, pooler=settings.database_pooler)
    try:
        return await Partitions(home).migrate()
    finally:
        await home.close()


async def _limited(
    limit: int, work: Callable[[Partition], Awaitable[ResultT]], partitions: Sequence[Partition]
) -> Sequence[ResultT]:
    places = asyncio.Semaphore(limit)

    async def placed(partition: Partition) -> ResultT:
        async with places:
            return await work(partition)

    return await asyncio.gather(*map(placed, partitions))
