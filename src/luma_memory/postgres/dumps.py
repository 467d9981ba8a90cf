"""Backups: dump the service's data from a database and load it into another, with PostgreSQL's own
programs.

A dump contains rows and no schema: the target database is migrated first, so the dump may be from
an older version, another owner or another host.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from luma_memory.domain.errors import Invalid, SetupError
from luma_memory.postgres.address import libpq_address
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.embedded.account import Account, name_of
from luma_memory.postgres.embedded.programs import programs_of
from luma_memory.postgres.errors import translated
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

# The newest programs send SET transaction_timeout to every server, which 16 rejects.
_MAJORS = (16, 18)
_MAGIC = b"PGDMP"
# Next to the first: variables the driver reads if the address lacks the value.
_PASSED_ON = (
    *("PATH", "HOME", "LD_LIBRARY_PATH", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"),
    *("PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL"),
)


async def dump(database: Database, dsn: str, file: Path, *, snapshot: str | None = None) -> None:
    """Write one consistent snapshot, despite concurrent writes. The file must not exist.

    snapshot: one that a transaction exported (`snapshot_of`); by default a new one. Raises Invalid
    if the file exists, SetupError with the program's first line if it fails.
    """
    if await asyncio.to_thread(file.exists):
        raise Invalid(f"{file} exists already: a backup overwrites nothing", code="file_exists")
    unfinished = file.with_name(f"{file.name}.unfinished")
    address, environment = _address(dsn)
    schema = "" if database.schema is None else f"{quoted_name(database.schema)}."
    arguments = ["--data-only", "--format=custom", f"--table={schema}memory_*", "--no-password"]
    # Neither the history nor the directory of partitions: both are about this database.
    excluded = ("memory_migrations", "memory_partition*")
    arguments += [f"--exclude-table={schema}{name}" for name in excluded]
    if snapshot is not None:
        arguments.append(f"--snapshot={snapshot}")
    arguments += [f"--file={unfinished}", address]
    program = await _program(database, "pg_dump")
    try:
        await asyncio.to_thread(_create_private, unfinished)
        await _run([program, *arguments], environment)
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)


@asynccontextmanager
async def snapshot_of(database: Database) -> AsyncIterator[str]:
    """A snapshot for several dumps of one database, valid until the end of the context."""
    connection = await database.dedicated()
    try:
        with translated():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot: str = await connection.fetchval(_SQL["export_snapshot"])
        yield snapshot
    finally:
        connection.terminate()


def _create_private(file: Path) -> None:
    """An empty file of mode 0600: a backup contains all users' data, and pg_dump keeps the mode."""
    file.unlink(missing_ok=True)
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


async def load(database: Database, dsn: str, file: Path) -> None:
    """Load a dump into a database with a current schema and no data, completely or not at all.

    A dump of a newer PostgreSQL cannot be loaded into an older one. Raises Invalid for other files,
    SetupError with the program's first line if it fails.
    """
    await asyncio.to_thread(_check, file)
    address, environment = _address(dsn)
    program = await _program(database, "pg_restore")
    await _run([program, "--list", str(file)], environment)  # its table of contents is complete
    # Rows created by the migration are replaced by the dump's; as there are no others,
    # they are restored if loading fails.
    secrets = await database.fetch(_SQL["read_secrets"])
    await database.execute(_SQL["empty_tables"])
    arguments = ["--data-only", "--no-owner", "--single-transaction", "--exit-on-error"]
    arguments += ["--no-password", f"--dbname={address}", str(file)]
    try:
        await _run([program, *arguments], environment)
    finally:
        # Without the rows, all of them; a dump of an older version lacks those that came later.
        await asyncio.shield(_put_back(database, secrets))


async def empty(database: Database) -> None:
    """Delete all rows of all users, and what the installation has once."""
    secrets = await database.fetch(_SQL["read_secrets"])
    await database.execute(_SQL["empty_tables"])
    await _put_back(database, secrets)


async def _put_back(database: Database, secrets: Sequence[asyncpg.Record]) -> None:
    for secret in secrets:
        await database.execute(_SQL["restore_secret"], secret["name"], secret["value"])


def _check(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise Invalid(f"{file} is no backup of this service", code="not_a_backup")


async def holds_something(database: Database) -> bool:
    """Whether the database, which has the schema, contains any user's data."""
    row = await database.fetch_row(_SQL["holds_something"])
    assert row is not None
    return bool(row["holds_something"])


async def _program(database: Database, name: str) -> str:
    """The program of the server's version: from the installed package, else from the PATH.

    Raises SetupError if there is none.
    """
    row = await database.fetch_row(_SQL["server_major"])
    assert row is not None
    account = Account(name_of(os.geteuid()), os.geteuid(), os.getegid(), switched=False)
    oldest, newest = _MAJORS
    try:
        folder = programs_of(oldest if row["major"] <= oldest else newest, account).folder
    except SetupError:
        found = shutil.which(name)
        if found is None:
            raise
        return found
    return str(folder / name)


def _address(dsn: str) -> tuple[str, dict[str, str]]:
    """The address without its password, which a process list would show, and the environment."""
    parts = urlsplit(libpq_address(dsn))
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    address = urlunsplit(parts._replace(netloc=f"{user}@{hosts}" if user else hosts))
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["LC_ALL"] = "C"
    if password:
        environment["PGPASSWORD"] = unquote(password)
    return address, environment


async def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, output = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        # Only the first line: the others quote rows.
        first = output.decode(errors="replace").strip().partition("\n")[0]
        raise SetupError(f"The backup's program failed: {first}", code="backup_failed")
