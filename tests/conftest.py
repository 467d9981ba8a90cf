"""Servers and databases for tests: real ones, started once, a fresh database a test.

A test file that is worth running on every supported PostgreSQL says `pytestmark = every_postgres`
(tests/support/postgres_majors.py).
"""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import asyncpg
import pytest
from tests.support.examples import load_profile
from tests.support.forked_commands import ForkedCommands
from tests.support.postgres_majors import NEWEST
from tests.support.redis_server import RedisServer, running_redis, skip_without_redis
from tests.support.servers import Servers

from luma_memory.postgres.database import Database

# Of `make test-integrations`, in an environment with the frameworks.
collect_ignore = ["frameworks"]

# A shell that runs us in the background ignores SIGINT, and so would every process that tests
# start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

load_profile()

# Imports and collected tests make a large heap that lives to the end. It is left out of garbage
# collection, or every full collection during a test would walk through all of it.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# Commands that a test starts are forks of one process, or imports would be most of a test run.
forked_commands = ForkedCommands()
forked_commands.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("new_interpreters") is None:
        return (yield)
    with forked_commands.disabled():
        return (yield)


def pytest_unconfigure() -> None:
    forked_commands.close()


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
