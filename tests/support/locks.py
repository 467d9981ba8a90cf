"""Wait for sessions of PostgreSQL that wait for a lock."""

from __future__ import annotations

import asyncio

import asyncpg

_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until_a_session_waits(connection: asyncpg.Connection) -> None:
    """Wait until a session of the connection's database waits for a lock."""
    async with asyncio.timeout(60):
        while not await _waiting(connection):  # noqa: ASYNC110 - another session changes it
            await asyncio.sleep(0.01)


async def until_no_session_waits(connection: asyncpg.Connection) -> None:
    """Wait until no session of the connection's database waits for a lock."""
    async with asyncio.timeout(60):
        while await _waiting(connection):  # noqa: ASYNC110 - another session changes it
            await asyncio.sleep(0.01)


async def _waiting(connection: asyncpg.Connection) -> int:
    # A transaction keeps the first state it has read.
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await connection.fetchval(_WAITING)
    return count
