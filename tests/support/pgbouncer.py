"""A PgBouncer of a test's own, in front of a test's server. Debian's package, as it comes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from luma_memory.postgres.embedded.account import server_account

# Debian puts it where only administrators look.
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="PgBouncer is not installed: apt-get install pgbouncer"
)
START_SECONDS_MAX = 20.0
# No limit on start parameters is lifted: an unusual one is refused, as on hosted databases.
CONFIGURATION = """\
[databases]
* = host='{server}' port={server_port} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
unix_socket_mode = 0777
listen_port = {port}
auth_type = any
admin_users = postgres
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 200
server_round_robin = {round_robin}
{further}
"""
# What belongs to a session and is there still. PgBouncer itself sets application_name and the like.
LEFT_BEHIND = """
SELECT (SELECT count(*) FROM pg_prepared_statements) AS statements,
       (SELECT count(*) FROM pg_listening_channels()) AS channels,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
           AS locks,
       (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name = 'jit') AS settings
"""
NOTHING = {"statements": 0, "channels": 0, "locks": 0, "settings": 0}


@dataclass(frozen=True, slots=True)
class Pooler:
    """A running one."""

    folder: Path
    port: int

    def address(self, dsn: str) -> str:
        """The address of the same database, through the pooler."""
        parts = urlsplit(dsn)
        socket = f"host={quote(str(self.folder), safe='')}&port={self.port}"
        return f"postgresql://postgres@{parts.path}?{socket}"

    async def left_behind(self, dsn: str, *, sessions: int) -> list[dict[str, int]]:
        """What was left in each of its server connections, of which there must be so many."""
        found = {}
        async with AsyncExitStack() as stack:
            for _ in range(sessions):  # an open transaction holds one: the next finds another
                client = await asyncpg.connect(self.address(dsn), statement_cache_size=0)
                stack.callback(client.terminate)
                await client.execute("BEGIN")
                pid = await client.fetchval("SELECT pg_backend_pid()")
                found[pid] = dict(await client.fetchrow(LEFT_BEHIND) or {})
        assert len(found) == sessions
        return list(found.values())


@asynccontextmanager
async def running_pooler(
    dsn: str,
    *,
    mode: str = "transaction",
    pool_size: int = 2,
    port: int = 6432,
    round_robin: bool = False,
    further: str = "",
) -> AsyncIterator[Pooler]:
    """A pooler in front of the server of `dsn` (on a Unix socket), stopped at the end.

    port: no TCP port is opened; the number is part of the socket's name.
    """
    folder = Path(tempfile.mkdtemp(prefix="pooler-"))
    server = parse_qs(urlsplit(dsn).query)
    text = CONFIGURATION.format(
        server=server["host"][0],
        server_port=server["port"][0],
        folder=folder,
        port=port,
        mode=mode,
        pool_size=pool_size,
        round_robin=int(round_robin),
        further=further,
    )
    try:
        process = await _start(folder, text)
        try:
            await _until_ready(process, pooler := Pooler(folder, port), dsn)
            yield pooler
        finally:
            process.terminate()
            await process.wait()
    finally:
        shutil.rmtree(folder)


async def _start(folder: Path, configuration: str) -> asyncio.subprocess.Process:
    file = folder / "pgbouncer.ini"
    file.write_text(configuration, encoding="utf-8")
    account = server_account()  # it refuses to be root, and the server's socket is its account's
    for path in (folder, file):
        account.own(path)
    user, group, further_groups = account.switch_to
    assert PROGRAM is not None
    with (folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            PROGRAM,
            "-q",
            str(file),
            stdout=subprocess.DEVNULL,
            stderr=log,
            user=user,
            group=group,
            extra_groups=further_groups,
        )


async def _until_ready(process: asyncio.subprocess.Process, pooler: Pooler, dsn: str) -> None:
    async with asyncio.timeout(START_SECONDS_MAX):
        while True:
            try:
                first = await asyncpg.connect(pooler.address(dsn), statement_cache_size=0)
                break
            except OSError:  # no socket yet, or no listener on it yet
                assert process.returncode is None, (pooler.folder / "log").read_text()
                await asyncio.sleep(0.01)
    await first.close()
