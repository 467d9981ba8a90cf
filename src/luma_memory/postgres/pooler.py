"""Detect whether a pooler shares PostgreSQL sessions between clients.

A pooler in transaction mode (PgBouncer, or hosted databases at port 6543) gives a
client any free server connection for each transaction. Session state is then unusable: LISTEN,
session advisory locks, SET, prepared statements. A pooler in session mode has no such limits.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg

# Setting: detect it, or trust the operator's choice.
PoolerChoice: TypeAlias = Literal["auto", "transaction", "none"]
HOSTED_POOLER_PORT = 6543

_PROCESS = "SELECT pg_backend_pid()"
# An idle pooler is detected in the first round, in any order of its connections; in a busy one
# other clients may take the connection in between (measured: at most four rounds). Only without a
# transaction pooler do all rounds run.
_ROUNDS = 20


def names_hosted_pooler(dsn: str) -> bool:
    """Whether any host of the address has the port of hosted transaction poolers."""
    parts = urlsplit(dsn)
    ports = re.findall(r":(\d+)(?=,|$)", parts.netloc.rpartition("@")[2])
    for given in parse_qs(parts.query).get("port", []):
        ports += given.split(",")
    return str(HOSTED_POOLER_PORT) in ports


async def sessions_are_shared(connect: Callable[[], Awaitable[asyncpg.Connection]]) -> bool:
    """Test whether two clients reach the same server process, or one client reaches two.

    Changes nothing. One statement on a direct connection: there, the process that greeted the
    client is the one that runs the statement, while a pooler greets with its own process id.
    Raises asyncpg's errors, TimeoutError and OSError.
    """
    first = await connect()
    try:
        if await first.fetchval(_PROCESS) == first.get_server_pid():
            return False
        second = await connect()
        try:
            return await _meet(first, second)
        finally:
            second.terminate()
    finally:
        first.terminate()


async def _meet(first: asyncpg.Connection, second: asyncpg.Connection) -> bool:
    mine, theirs = set[int](), set[int]()
    for _ in range(_ROUNDS):
        # Twice the one, once the other: alternating, two server connections would look like
        # sessions.
        mine |= {await first.fetchval(_PROCESS), await first.fetchval(_PROCESS)}
        theirs.add(await second.fetchval(_PROCESS))
        if len(mine) > 1 or mine & theirs:
            return True
    return False
