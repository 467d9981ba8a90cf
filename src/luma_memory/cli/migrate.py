"""`migrate`: create or upgrade the database schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from luma_memory.bootstrap.database import (
    SCHEMA_MISSING,
    database_address,
    migrate_database,
    operators_database,
    schema_script,
)
from luma_memory.bootstrap.partitions import migrate_partitions
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, print_note
from luma_memory.cli.partitions import print_migrations
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.settings import Settings, load_settings

_RETRY_SECONDS: Final = 2.0


@examples(
    "luma-memory migrate",
    "DATABASE_URL=postgresql://… luma-memory migrate",
    "luma-memory migrate --print > memory-async-refactor.sql",
    "luma-memory migrate --check --wait 600   block until the schema is current",
)
def migrate(
    print_: Annotated[
        bool, typer.Option("--print", help="Print the schema as one SQL script; change nothing.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit with 1 if the schema is not current."),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait this long for the database; with --check, for its schema.",
        ),
    ] = 0,
    data_dir: DataDir = None,
) -> None:
    """Migrate the database to this version's schema. Idempotent.

    `luma-memory up` does this at startup. --print writes the same statements as a script for a SQL
    editor. Prepared partitions are migrated after the home partition. --check only checks the home
    partition; with --wait it waits until the schema is current.
    """
    if print_:
        typer.echo(schema_script(), nl=False)
        return
    work = _check if check else _migrate
    settings = load_settings(data_dir=data_dir)
    run_async(_retry(lambda: work(settings), wait))


async def _migrate(settings: Settings) -> None:
    async with database_address(settings) as dsn:
        report = await migrate_database(settings, dsn)
        applied = ", ".join(report.applied)
        console().print(f"applied {applied}" if applied else f"already at {report.version}")
        print_migrations(await migrate_partitions(settings, dsn))


async def _check(settings: Settings) -> None:
    async with operators_database(settings):
        console().print("the schema is current, or newer than this version")


async def _retry(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Retry for so many seconds; an error that waiting cannot resolve is raised at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except (StoreUnavailable, SetupError) as error:
            is_temporary = error.retryable or error.code == SCHEMA_MISSING
            if not is_temporary or time.monotonic() >= deadline:
                raise
            print_note(f"{error}; retrying")
        await asyncio.sleep(_RETRY_SECONDS)
