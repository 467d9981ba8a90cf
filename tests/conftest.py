"""Servers and databases for tests: real ones, started once, a fresh database a test.

A test file that is worth running on every supported PostgreSQL says `pytestmark = every_postgres`
(tests/support/postgres_majors.py).
"""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from tests.support.postgres_majors import NEWEST
from tests.support.redis_server import RedisServer, running_redis, skip_without_redis

from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.postgres.migrator import migrate

# A shell that runs us in the background ignores SIGINT, and so would every process that tests
# start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Speed is not judged by tests, and an example that was slow once is no failure.
hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared machine")

TEMPLATE = "memory_template"
# Roles belong to the server, and the schema's grants depend on them: they are there before any
# database is, or two databases of one server would differ by which test came first.
_HOSTED_ROLES = """
DO $$ BEGIN
    CREATE ROLE anon NOLOGIN;
    CREATE ROLE authenticated NOLOGIN;
    CREATE ROLE service_role NOLOGIN BYPASSRLS;
EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
_NEW_DATABASE = "CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"


class Servers:
    """One throw-away server a major version, started when the first test asks for it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._addresses: dict[int, str] = {}
        self._with_template: set[int] = set()

    def address(self, major: int) -> str:
        """Of the server's first database, which stays as it is."""
        if major not in self._addresses:
            # Not pytest's folder: its parents are closed to the server's account.
            folder = tempfile.mkdtemp(prefix=f"luma test pg{major} ")
            self._stack.callback(shutil.rmtree, folder)
            server = EmbeddedPostgres(Path(folder), major=major, durable=False)
            self._stack.callback(server.stop)
            self._addresses[major] = server.start()
        return self._addresses[major]

    async def template(self, major: int) -> str:
        """The name of a database that has the schema."""
        if major not in self._with_template:
            admin = await asyncpg.connect(self.address(major))
            await admin.execute(_HOSTED_ROLES)
            await admin.execute(f"CREATE DATABASE {TEMPLATE}")
            await admin.close()
            database = Database(self.address_of(major, TEMPLATE), pool_size=1)
            await migrate(database)
            await database.close()
            self._with_template.add(major)
        return TEMPLATE

    def address_of(self, major: int, database: str) -> str:
        return self.address(major).replace("/luma_memory?", f"/{database}?")

    @asynccontextmanager
    async def fresh(self, major: int, *, template: str) -> AsyncIterator[str]:
        """The address of a new database, dropped afterwards whoever still is connected to it."""
        name = f"test_{secrets.token_hex(6)}"
        admin = await asyncpg.connect(self.address(major))
        try:
            await admin.execute(_HOSTED_ROLES)
            await admin.execute(_NEW_DATABASE.format(name=name, template=template))
            try:
                yield self.address_of(major, name)
            finally:
                await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def major() -> int:
    """PostgreSQL's major version; parametrised by the files that run on several."""
    return NEWEST


@pytest.fixture
async def empty_dsn(servers: Servers, major: int) -> AsyncIterator[str]:
    """The address of a database without anything in it."""
    async with servers.fresh(major, template="template0") as dsn:
        yield dsn


@pytest.fixture
async def dsn(servers: Servers, major: int) -> AsyncIterator[str]:
    """The address of a database with the schema, and nothing in it."""
    async with servers.fresh(major, template=await servers.template(major)) as dsn:
        yield dsn


@pytest.fixture
async def connect_database(dsn: str) -> AsyncIterator[Callable[[], Database]]:
    """Further pools on the same database, as other processes have them."""
    opened: list[Database] = []

    def connect() -> Database:
        opened.append(Database(dsn, pool_size=4, acquire_timeout_seconds=60.0))
        return opened[-1]

    yield connect
    for database in opened:
        await database.close()


@pytest.fixture
def database(connect_database: Callable[[], Database]) -> Database:
    """A pool on a database with the schema. Opens itself."""
    return connect_database()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection to the same database, to look with."""
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    """A Redis of the test's own."""
    skip_without_redis()
    async with running_redis() as server:
        yield server
