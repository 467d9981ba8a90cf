"""`migrate`: the database's schema."""

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
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, say_note
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.settings import Settings, load_settings

_AGAIN_SECONDS: Final = 2.0


@examples(
    "luma-memory migrate",
    "DATABASE_URL=postgresql://… luma-memory migrate",
    "luma-memory migrate --print > memory-async-refactor.sql",
    "luma-memory migrate --check --wait 600   for a process that must not start before",
)
def migrate(
    print_: Annotated[
        bool, typer.Option("--print", help="Write the schema as one SQL file, change nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; end with 1 if something is missing.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="For the database; with --check, its schema."
        ),
    ] = 0,
    data_dir: DataDir = None,
) -> None:
    """Bring the database to this version's schema; running it again changes nothing.

    `luma-memory up` does it by itself. With --print the same statements come as one file for a SQL
    editor. With --check it only looks, and with --wait it looks until it is there.
    """
    if print_:
        typer.echo(schema_script(), nl=False)
        return
    work = _check if check else _migrate
    settings = load_settings(data_dir=data_dir)
    run_async(_until_it_can(lambda: work(settings), wait))


async def _migrate(settings: Settings) -> None:
    async with database_address(settings) as dsn:
        report = await migrate_database(settings, dsn)
    applied = ", ".join(report.applied)
    console().print(f"applied {applied}" if applied else f"already at {report.version}")


async def _check(settings: Settings) -> None:
    async with operators_database(settings):
        console().print("the schema is this version's, or a newer one")


async def _until_it_can(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Try until it works; what no waiting mends is raised at once."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except (StoreUnavailable, SetupError) as error:
            mends_itself = error.retryable or error.code == SCHEMA_MISSING
            if not mends_itself or time.monotonic() >= ends:
                raise
            say_note(f"{error}; trying again")
        await asyncio.sleep(_AGAIN_SECONDS)
