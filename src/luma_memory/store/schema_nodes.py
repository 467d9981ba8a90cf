"""Partitions that are distributed schemas of a Citus cluster: which node has them.

The address of the home partition is the coordinator's. Citus sends each statement on a partition's
tables to the node that has its schema, and calls of its functions as a whole, so that a block and
its job are committed there at once (see docs/adr/0028-citus.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)
_ROWS: Final = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
WHERE relnamespace = {schema}::regnamespace AND relkind = 'r' AND relname ~ '^memory_.*_[0-9]+$'
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, as Citus names it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """A move that runs: the schema's bytes, and those that the new node has already."""

    bytes: int
    copied: int
    status: str | None  # of the table that is furthest behind, as Citus names it


async def is_distributed(partition: Database) -> bool:
    """Whether Citus has placed the partition, whose schema is current."""
    if not await partition.coordinates_nodes():
        return False
    row = await partition.fetch_row(_SQL["is_distributed"])
    return row is not None and bool(row["found"])


async def distribute(partition: Database) -> None:
    """Let Citus place the partition on a node, and run its functions there. Idempotent."""
    assert partition.schema is not None
    name = quoted_name(partition.schema)
    if not await is_distributed(partition):
        for row in await partition.fetch(_SQL["unlogged_tables"], name):
            await partition.execute(f"ALTER TABLE {row['name']} SET LOGGED")
        await partition.execute(_SQL["distribute"], name)
    await partition.execute(_SQL["settle_functions"])


async def node_of(home: Database, schema: str) -> Node | None:
    """The node that has a schema, also if it is away; None if the schema is not distributed."""
    if not await home.coordinates_nodes():
        return None
    row = await home.fetch_row(_SQL["node_of"], quoted_name(schema))
    return None if row is None else Node(row["host"], row["port"])


async def bytes_of(home: Database, schema: str) -> int:
    """Bytes of a distributed schema with its indexes."""
    row = await home.fetch_row(_SQL["bytes_of"], quoted_name(schema))
    return 0 if row is None else row["bytes"]


async def nodes(home: Database) -> Sequence[Node]:
    """Those that may have partitions."""
    return [Node(row["host"], row["port"]) for row in await home.fetch(_SQL["nodes"])]


async def rows_of(partition: Database) -> int:
    """Rows of a distributed partition, as of the last analysis on its node."""
    assert partition.schema is not None
    name = quoted_name(partition.schema)
    literal = "'" + name.replace("'", "''") + "'"
    row = await partition.fetch_row(
        _SQL["rows_of"], f"{name}.memory_users", _ROWS.format(schema=literal)
    )
    return 0 if row is None else row["rows"]


async def move_progress(home: Database, schema: str) -> MoveProgress | None:
    """Of the schema's move, if one runs."""
    row = await home.fetch_row(_SQL["progress"], quoted_name(schema))
    if row is None or not row["tables"]:
        return None
    return MoveProgress(row["bytes"], row["copied"], row["status"])
