"""Move a partition that is a distributed schema to another node of its Citus cluster.

Citus moves it: the tables are copied by logical replication while the partition serves, then writes
wait until the rest is copied, and all nodes learn the new place in one transaction. The partition's
name and address stay, so processes need not know. Citus removes what an interrupted move left when
the next one begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncpg

from luma_memory.domain.errors import Conflict, Invalid, NotFound, StoreUnavailable
from luma_memory.domain.partition import HOME, Partition, first_id
from luma_memory.partitions.move_locks import no_moves
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.errors import UNAVAILABLE, translated
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.partitions import PartitionDirectory, begin_ids
from luma_memory.store.schema_nodes import (
    MoveProgress,
    Node,
    bytes_of,
    move_progress,
    node_of,
    nodes,
)

_SQL: Final = SqlFile(__name__)
_PROGRESS_SECONDS: Final = 0.5
# A move copies the whole schema.
_MOVE_SECONDS: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class SchemaMoveReport:
    """A finished move. seconds: 0 if the partition was there already."""

    number: int
    schema: str
    source: str
    target: str
    bytes: int
    seconds: float


class SchemaMove:
    """Moves one partition. on_progress: called while rows are copied."""

    def __init__(
        self,
        home: Database,
        number: int,
        *,
        on_progress: Callable[[MoveProgress], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._number = number
        self._on_progress = on_progress

    async def run(self, address: str) -> SchemaMoveReport:
        """Move the partition to a node, given as host:port; wait for a move that runs already.

        Raises NotFound, Invalid, Conflict and StoreUnavailable. The partition then serves where it
        was, or at its new place if Citus had finished: a repetition finds out.
        """
        partition = await self._partition()
        target = await self._node(address)
        began = time.monotonic()
        # Not held by the session that moves, which continues when the command is killed: until then
        # the command could not be repeated.
        async with no_moves(self._home):
            first = await self._current(partition)
            await self._until_no_move_runs(partition)
            if await self._current(partition) != target:
                # A node that was added since then has no numbers of its own yet.
                place = self._home.beside(schema=partition.schema, dsn=None)
                try:
                    await begin_ids(place, first_id(self._number))
                finally:
                    await place.close()
                await self._move(partition, target)
        now = await self._current(partition)
        if now != target:
            raise StoreUnavailable(f"Partition {self._number} is still on {now}")
        return SchemaMoveReport(
            number=self._number,
            schema=partition.schema,
            source=str(first),
            target=str(target),
            bytes=await bytes_of(self._home, partition.schema),
            seconds=0.0 if first == target else time.monotonic() - began,
        )

    async def _partition(self) -> Partition:
        known = {one.number: one for one in await PartitionDirectory(self._home).partitions()}
        if self._number not in known or self._number == HOME:
            raise NotFound(f"There is no partition {self._number} that can be moved")
        return known[self._number]

    async def _node(self, address: str) -> Node:
        known = await nodes(self._home) if await self._home.coordinates_nodes() else []
        for node in known:
            if str(node) == address:
                return node
        names = ", ".join(map(str, known))
        raise Invalid(
            f"There is no node {address}: Citus has {names}"
            if known
            else f"{address} is not the address of a database, and DATABASE_URL leads to no Citus"
            " cluster whose node it could be",
            field="to",
        )

    async def _current(self, partition: Partition) -> Node:
        found = await node_of(self._home, partition.schema)
        if found is None:
            raise Conflict(
                f"Partition {self._number} is not a distributed schema: give the address of a"
                " database to move it to",
                code="not_distributed",
            )
        return found

    async def _until_no_move_runs(self, partition: Partition) -> None:
        """The coordinator continues the move of a command that was ended."""
        while (progress := await move_progress(self._home, partition.schema)) is not None:
            self._on_progress(progress)
            await asyncio.sleep(_PROGRESS_SECONDS)

    async def _move(self, partition: Partition, target: Node) -> None:
        connection = await self._home.dedicated()
        moving = asyncio.create_task(
            connection.fetch(
                _SQL["move"],
                quoted_name(partition.schema),
                target.host,
                target.port,
                timeout=_MOVE_SECONDS,
            )
        )
        try:
            while not moving.done():
                await asyncio.wait({moving}, timeout=_PROGRESS_SECONDS)
                if (progress := await move_progress(self._home, partition.schema)) is not None:
                    self._on_progress(progress)
            await moving
        except UNAVAILABLE as error:
            raise StoreUnavailable(
                f"The move ended early ({type(error).__name__}): repeat the command"
            ) from error
        except asyncpg.SyntaxOrAccessError:
            with translated():
                raise
        except asyncpg.PostgresError as error:
            # Of Citus about its nodes and its locks; no rows are named.
            message = str(error.args[0]).splitlines()[0]
            raise StoreUnavailable(f"Citus did not move it: {message}") from error
        finally:
            connection.terminate()
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
