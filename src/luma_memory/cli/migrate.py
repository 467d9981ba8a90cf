"""`migrate`: the database's schema."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.bootstrap.database import database_address, migrate_database, schema_script
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console
from luma_memory.cli.running import run_async
from luma_memory.settings import Settings, load_settings


@examples(
    "luma-memory migrate",
    "DATABASE_URL=postgresql://… luma-memory migrate",
    "luma-memory migrate --print > memory-async-refactor.sql",
)
def migrate(
    print_: Annotated[
        bool, typer.Option("--print", help="Write the schema as one SQL file, change nothing.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Bring the database to this version's schema; running it again changes nothing.

    `luma-memory up` does it by itself. With --print the same statements come as one file for a SQL
    editor.
    """
    if print_:
        typer.echo(schema_script(), nl=False)
        return
    run_async(_migrate(load_settings(data_dir=data_dir)))


async def _migrate(settings: Settings) -> None:
    async with database_address(settings) as dsn:
        report = await migrate_database(settings, dsn)
    applied = ", ".join(report.applied)
    console().print(f"applied {applied}" if applied else f"already at {report.version}")
