"""PostgreSQL servers for tests: one for each major version in each test process."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.postgres.migrator import migrate

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


# On a disk, creating and dropping a database of 450 files takes ten times the processor time.
_MEMORY: Final = Path("/dev/shm")
_MEMORY_FREE_BYTES_MIN: Final = 4 << 30


def _new_folder(major: int) -> Path:
    """In memory where there is space: what these servers hold need not outlive the tests.

    Not in pytest's folder: its parents are closed to the server's account.
    """
    prefix = f"luma test pg{major} "
    if not (_MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_FREE_BYTES_MIN):
        return Path(tempfile.mkdtemp(prefix=prefix))
    for left in _MEMORY.glob("luma test pg* of *"):
        if not psutil.pid_exists(int(left.name.rpartition(" ")[2].partition("-")[0])):
            # Its tests were killed. A server that still runs notices this and ends.
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}of {os.getpid()}-", dir=_MEMORY))


class Servers:
    """One throw-away server a major version, started when the first test asks for it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._addresses: dict[int, str] = {}
        self._with_template: set[tuple[int, int]] = set()

    def address(self, major: int) -> str:
        """Of the server's first database, which stays as it is."""
        if major not in self._addresses:
            folder = _new_folder(major)
            self._stack.callback(shutil.rmtree, folder)
            server = EmbeddedPostgres(folder, major=major, durable=False)
            self._stack.callback(server.stop)
            self._addresses[major] = server.start()
        return self._addresses[major]

    async def template(self, major: int, *, partitions: int = 1) -> str:
        """The name of a database that has the schema, in so many partitions."""
        name = TEMPLATE if partitions == 1 else f"{TEMPLATE}_{partitions}"
        if (major, partitions) not in self._with_template:
            admin = await asyncpg.connect(self.address(major))
            await admin.execute(_HOSTED_ROLES)
            await admin.execute(f"CREATE DATABASE {name}")
            await admin.close()
            database = Database(self.address_of(major, name), pool_size=1)
            await migrate(database)
            if partitions > 1:
                await Partitions(database).create(partitions, "luma_p")
            await database.close()
            self._with_template.add((major, partitions))
        return name

    def address_of(self, major: int, database: str) -> str:
        return self.address(major).replace("/luma_memory?", f"/{database}?")

    @asynccontextmanager
    async def fresh(self, major: int, *, template: str) -> AsyncIterator[str]:
        """The address of a new database; dropped afterwards, open connections included."""
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
