"""Servers and databases for tests: real ones, started once, a fresh database a test."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.postgres.migrator import migrate

TEMPLATE = "memory_template"


@pytest.fixture(scope="session", params=[18], ids=lambda major: f"pg{major}")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a throw-away server, for its database luma_memory."""
    major: int = request.param
    directory: Path = tmp_path_factory.mktemp(f"pg{major}")
    with EmbeddedPostgres(directory, major=major, durable=False) as embedded:
        yield embedded.dsn


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """A migrated database to clone from."""
    return server


@asynccontextmanager
async def fresh_database(server: str, *, template: str | None) -> AsyncIterator[str]:
    """The address of a new database, empty or cloned, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        yield server.replace("/luma_memory?", f"/{name}?")
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
