"""Copy rows between two schemas, which may be on different servers, and compare them.

Both schemas have the same migrations. Rows travel in PostgreSQL's binary form, some at a time.
Connections are those of `Database.dedicated`. Functions raise the driver's errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from luma_memory.postgres.database import quoted_name
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)
# Of one statement: a table of any size may be compared.
LONG_SECONDS: Final = 86_400.0
CHUNK_ROWS: Final = 2000
_PIECES_AHEAD: Final = 8  # of a stream, up to 64 KiB each


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a primary key, whose columns are in the same order on both sides."""

    name: str
    columns: Sequence[str]
    senders: Sequence[str | None]  # the function that gives a column's binary form, if needed
    key: Sequence[str]
    key_types: Sequence[str]

    @property
    def log(self) -> str:
        """The table of its changed keys while it is copied."""
        return self.name.replace("memory_", "moving_", 1)

    def in_schema(self, schema: str) -> str:
        return f"{quoted_name(schema)}.{quoted_name(self.name)}"

    def log_in(self, schema: str) -> str:
        return f"{quoted_name(schema)}.{quoted_name(self.log)}"

    def keys(self, prefix: str = "") -> str:
        return ", ".join(prefix + quoted_name(column) for column in self.key)

    def columns_of(self, prefix: str = "") -> str:
        return ", ".join(prefix + quoted_name(column) for column in self.columns)

    def same_key(self, one: str, other: str) -> str:
        names = [quoted_name(column) for column in self.key]
        return " AND ".join(f"{one}.{name} = {other}.{name}" for name in names)


@dataclass(frozen=True, slots=True)
class Amount:
    """Of copied data."""

    rows: int = 0
    bytes: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.rows + other.rows, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of a table up to and including a key, as text for each of its columns."""

    last_key: Sequence[str]
    amount: Amount


async def tables(connection: asyncpg.Connection, schema: str) -> Sequence[Table]:
    """In order of their names. Raises ValueError for one without a primary key."""
    found = await connection.fetch(_SQL["tables"], quoted_name(schema))
    for row in found:
        if row["key"] is None:
            raise ValueError(f"{row['name']} has no primary key")
    return [Table(**dict(row)) for row in found]


async def enter(connection: asyncpg.Connection, schema: str) -> None:
    """Prepare a connection for the functions of this module: its names lead to pgvector's, too."""
    await connection.execute("SET row_security = off; SET jit = off")
    await connection.fetchval(_SQL["extension_path"], quoted_name(schema))


async def stream(
    source: asyncpg.Connection,
    query: str,
    target: asyncpg.Connection,
    *,
    table: str,
    schema: str | None = None,
    columns: Sequence[str],
    values: Sequence[object] = (),
) -> Amount:
    """Write the rows of a query at the source to a table at the target."""
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
    size = 0

    async def keep(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        await pieces.put(bytes(piece))

    async def arriving() -> AsyncIterator[bytes]:
        while (piece := await pieces.get()) is not None:
            yield piece

    async def read() -> None:
        await source.copy_from_query(
            query, *values, output=keep, format="binary", timeout=LONG_SECONDS
        )
        await pieces.put(None)

    async def write() -> str:
        status: str = await target.copy_to_table(
            table,
            source=arriving(),
            columns=columns,
            schema_name=schema,
            format="binary",
            timeout=LONG_SECONDS,
        )
        return status

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            writing = group.create_task(write())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return Amount(int(writing.result().split()[-1]), size)


async def copy_chunk(
    source: asyncpg.Connection,
    source_schema: str,
    target: asyncpg.Connection,
    target_schema: str,
    table: Table,
    after: Sequence[str] | None,
) -> Chunk | None:
    """Copy the next rows in order of the key, in the target's transaction; None if there are none.

    Leaves out a row that collides with another one there: both were changed meanwhile, and so the
    log of changes has them.
    """
    last = await _last_key(source, source_schema, table, after)
    if last is None:
        return None
    await target.execute(
        f"CREATE TEMP TABLE moving_rows (LIKE {table.in_schema(target_schema)}) ON COMMIT DROP"
    )
    condition, values = _between(table, after, last)
    query = f"SELECT {table.columns_of()} FROM {table.in_schema(source_schema)} WHERE {condition}"  # noqa: S608 - names of the catalog, quoted
    amount = await stream(
        source, query, target, table="moving_rows", columns=table.columns, values=values
    )
    await target.execute(
        f"INSERT INTO {table.in_schema(target_schema)} ({table.columns_of()})"  # noqa: S608
        f" OVERRIDING SYSTEM VALUE SELECT {table.columns_of()} FROM moving_rows"
        " ON CONFLICT DO NOTHING",
        timeout=LONG_SECONDS,
    )
    await target.execute("DROP TABLE pg_temp.moving_rows")
    return Chunk(last, amount)


async def _last_key(
    source: asyncpg.Connection, schema: str, table: Table, after: Sequence[str] | None
) -> Sequence[str] | None:
    condition, values = _between(table, after, None)
    texts = ", ".join(f"{quoted_name(column)}::text" for column in table.key)
    backward = ", ".join(f"{quoted_name(column)} DESC" for column in table.key)
    found: Sequence[str] | None = await source.fetchval(
        f"SELECT ARRAY[{texts}] FROM (SELECT {table.keys()} FROM {table.in_schema(schema)}"  # noqa: S608
        f" WHERE {condition} ORDER BY {table.keys()} LIMIT {CHUNK_ROWS}) AS chunk"
        f" ORDER BY {backward} LIMIT 1",
        *values,
        timeout=LONG_SECONDS,
    )
    return found


def _between(
    table: Table, after: Sequence[str] | None, last: Sequence[str] | None
) -> tuple[str, list[object]]:
    """The condition of rows behind one key and up to another, and its parameters."""
    conditions, values = ["true"], []
    for sign, key in ((">", after), ("<=", last)):
        if key is not None:
            values.append(list(key))
            place = f"${len(values)}"
            parts = ", ".join(
                f"({place}::text[])[{n}]::{kind}" for n, kind in enumerate(table.key_types, 1)
            )
            conditions.append(f"({table.keys()}) {sign} ({parts})")
    return " AND ".join(conditions), list[object](values)


async def digest(
    connection: asyncpg.Connection, schema: str, table: Table, *, condition: str = "true"
) -> tuple[int, int]:
    """Count and sum of hashes of the rows, which `condition` calls t: equal for equal rows.

    The hash functions are those of hash partitioning, which are the same in all versions.
    """
    (found,) = await digests(connection, [schema], table, condition)
    return found


async def digests(
    connection: asyncpg.Connection,
    schemas: Sequence[str],
    table: Table,
    condition: str,
    values: Sequence[object] = (),
) -> Sequence[tuple[int, int]]:
    """`digest` of several schemas of a database, in one snapshot. values: of the condition's
    parameters."""
    texts = [
        f"SELECT {n} AS n, d.* FROM ({digest_text(schema, table, condition)}) AS d"  # noqa: S608
        for n, schema in enumerate(schemas)
    ]
    rows = await connection.fetch(
        " UNION ALL ".join(texts) + " ORDER BY n", *values, timeout=LONG_SECONDS
    )
    return [(row["rows"], int(row["hash"])) for row in rows]


def digest_text(schema: str, table: Table, condition: str) -> str:
    """The query of `digest`: columns `rows` and `hash`."""
    hashed = ", ".join(
        f"t.{quoted_name(name)}" if sender is None else f"md5({sender}(t.{quoted_name(name)}))"
        for name, sender in zip(table.columns, table.senders, strict=True)
    )
    return (
        "SELECT count(*) AS rows,"  # noqa: S608 - names of the catalog, quoted
        f" coalesce(sum(hash_record_extended(ROW({hashed}), 0)), 0)::text AS hash"
        f" FROM {table.in_schema(schema)} AS t WHERE {condition}"
    )


async def continue_sequences(
    source: asyncpg.Connection,
    source_schema: str,
    target: asyncpg.Connection,
    target_schema: str,
) -> None:
    """The target's sequences continue where the source's are."""
    for row in await source.fetch(_SQL["sequences"], source_schema):
        name = f"{quoted_name(target_schema)}.{quoted_name(row['name'])}"
        await target.fetchval("SELECT setval($1::text::regclass, $2)", name, row["last_value"])
