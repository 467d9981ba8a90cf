"""A Citus cluster for tests: databases of their own on all nodes, and nodes that are killed.

CITUS_DATABASE_URL is the address of a database at the coordinator of a cluster with two nodes, all
on this machine, as a superuser. CITUS_START_NODE is a command that starts the server of a node that
was killed; `{port}` in it becomes the node's port.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate
from luma_memory.store.schema_nodes import Node, nodes

URL, START = "CITUS_DATABASE_URL", "CITUS_START_NODE"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Cluster:
    """A new database on all nodes of a cluster. address: of the coordinator."""

    address: str
    nodes: Sequence[Node]

    async def kill(self, node: Node) -> None:
        """SIGKILL to the postmaster; its backends end by themselves."""
        connection = await asyncpg.connect(_at(self.address, node))
        pid = int((await connection.fetchval("SELECT pg_read_file('postmaster.pid')")).split()[0])
        os.kill(pid, signal.SIGKILL)
        connection.terminate()

    async def start(self, node: Node) -> None:
        """Until it accepts connections."""
        command = os.environ[START].format(port=node.port)
        async with asyncio.timeout(_START_SECONDS):
            while True:
                process = await asyncio.create_subprocess_shell(
                    command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                # Backends of the killed server may still hold its memory.
                if await process.wait() == 0:
                    return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def fresh_cluster(*, partitions: int, role: str | None = None) -> AsyncIterator[Cluster]:
    """With so many partitions, all but the home partition on nodes.

    role: one without a superuser's rights, which makes all of it; by default that of the address.
    """
    address = os.environ[URL]
    name = f"test_{secrets.token_hex(6)}"
    server = Database(address, pool_size=1)
    try:
        members = await nodes(server)
    finally:
        await server.close()
    assert len(members) >= 2, "the cluster needs two nodes"
    own = _named(address, name)
    places = [address, *(_at(address, node) for node in members)]
    try:
        for place in places:
            await _create(place, name)
        await _join(own, members)
        if role is not None:
            await _admit(own, name, role)
            own = _as(own, role)
        database = Database(own, pool_size=2, command_timeout_seconds=300)
        await migrate(database)
        done = await Partitions(database).create(partitions, "luma_p", distribute=True)
        await database.close()
        assert [one.error for one in done] == [None] * (partitions - 1)
        yield Cluster(own, members)
    finally:
        for place in places:
            await _drop(place, name)
        if role is not None:
            # On each node: Citus passes it on only to those that know the role from this database,
            # and the one where it was made is gone.
            for place in places:
                drop = f"SET citus.enable_ddl_propagation = off; DROP ROLE IF EXISTS {role}"
                await _execute(place, drop)
                assert not await _has_role(place, role)


@asynccontextmanager
async def fresh_database() -> AsyncIterator[str]:
    """A new database of the coordinator's server, without Citus."""
    address, name = os.environ[URL], f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(address)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    try:
        yield _named(address, name)
    finally:
        await _drop(address, name)


async def _create(place: str, name: str) -> None:
    connection = await asyncpg.connect(place)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    connection = await asyncpg.connect(_named(place, name))
    await connection.execute("CREATE EXTENSION citus")
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()


async def _admit(address: str, name: str, role: str) -> None:
    """Citus makes the role on all nodes, and passes on what it is granted."""
    await _execute(
        address,
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role};"
        f" GRANT CREATE ON SCHEMA public TO {role}",
    )


async def _execute(address: str, statement: str) -> None:
    connection = await asyncpg.connect(address)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _has_role(address: str, role: str) -> bool:
    connection = await asyncpg.connect(address)
    try:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role
        )
    finally:
        await connection.close()
    return found


async def _drop(place: str, name: str) -> None:
    connection = await asyncpg.connect(place)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                except asyncpg.ObjectInUseError:  # by a move that Citus ends first
                    await asyncio.sleep(0.5)
                else:
                    return
    finally:
        await connection.close()


async def _join(address: str, members: Sequence[Node]) -> None:
    connection = await asyncpg.connect(address)
    parts = urlsplit(address)
    await connection.execute(
        "SELECT citus_set_coordinator_host($1, $2)", parts.hostname, parts.port or 5432
    )
    for node in members:
        await connection.execute("SELECT citus_add_node($1, $2)", node.host, node.port)
    await connection.close()


def _named(address: str, database: str) -> str:
    return urlunsplit(urlsplit(address)._replace(path=f"/{database}"))


def _as(address: str, role: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


def _at(address: str, node: Node) -> str:
    parts = urlsplit(address)
    account, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account}{at}{node.host}:{node.port}"))
