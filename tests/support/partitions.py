"""Services whose users are spread over several partitions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers
from tests.support.tcp_proxy import Proxy, proxied

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.partition import HOME, partition_number
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database


def chosen_partitions() -> int:
    """In how many partitions the services of acceptance tests have their users: 1 by default."""
    return int(os.environ.get("TEST_PARTITIONS", "1"))


async def connected_to(dsn: str, user_id: str) -> asyncpg.Connection:
    """A connection whose names lead to the partition of a user of the default project."""
    number = partition_number(Scope("default", user_id), chosen_partitions())
    path = "public" if number == HOME else f"luma_p{number}, public"
    connection: asyncpg.Connection = await asyncpg.connect(
        dsn, server_settings={"search_path": path}
    )
    return connection


async def fetch_everywhere(dsn: str, query: str) -> Sequence[asyncpg.Record]:
    """Rows of all partitions that there are."""
    connection = await asyncpg.connect(dsn)
    try:
        known = await connection.fetch("SELECT schema_name FROM memory_partitions ORDER BY number")
        rows: list[asyncpg.Record] = []
        for schema in [row["schema_name"] for row in known] or ["public"]:
            await connection.execute(f'SET search_path = "{schema}", public')
            rows += await connection.fetch(query)
        return rows
    finally:
        await connection.close()


def users_of(partition: int, of: int, limit: int, *, prefix: str = "user") -> Sequence[str]:
    """Users of the default project that belong to a partition."""
    names = (f"{prefix}-{n}" for n in count())
    return list(
        islice((n for n in names if partition_number(Scope("default", n), of) == partition), limit)
    )


def fellow_of(user_id: str) -> str:
    """Another user of the default project, whose services have both in one partition."""
    count = chosen_partitions()
    number = partition_number(Scope("default", user_id), count)
    return users_of(number, count, 1, prefix="fellow")[0]


@asynccontextmanager
async def two_servers(servers: Servers) -> AsyncIterator[tuple[str, Proxy]]:
    """Two partitions: the home partition's address, and the network to the other one's database."""
    template = await servers.template(NEWEST)
    async with (
        servers.fresh(NEWEST, template=template) as home,
        servers.fresh(NEWEST, template="template0") as other,
    ):
        address = urlsplit(other)
        (folder,), (port,) = (parse_qs(address.query)[name] for name in ("host", "port"))
        async with proxied(Path(folder) / f".s.PGSQL.{port}") as proxy:
            through = f"postgresql://{address.username}@127.0.0.1:{proxy.port}{address.path}"
            database = Database(home, pool_size=1)
            done = await Partitions(database).create(2, "luma_p", {1: through})
            await database.close()
            assert [one.error for one in done] == [None]
            yield home, proxy
