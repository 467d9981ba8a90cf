"""`backup` and `restore`: all data in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luma_memory.bootstrap.backups import back_up
from luma_memory.bootstrap.backups import restore as restore_from
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console
from luma_memory.cli.running import run_async
from luma_memory.settings import load_settings

_File = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)]


@examples(
    "luma-memory backup memory-2026-03-04.dump",
    "DATABASE_URL=postgresql://… luma-memory backup memory.dump",
)
def backup(file: _File, data_dir: DataDir = None) -> None:
    """Back up all data into one file without stopping the service.

    The file is a consistent snapshot of all projects and users, including keys and jobs. Its mode
    is 0600: protect it like the database. To export one user, call `GET /users/{user_id}/export`.
    """
    run_async(back_up(load_settings(data_dir=data_dir), file))
    console().print(f"wrote {file} ({file.stat().st_size / 1e6:,.1f} MB)", soft_wrap=True)


@examples(
    "luma-memory restore memory-2026-03-04.dump --data-dir new",
    "DATABASE_URL=postgresql://…/empty luma-memory restore memory.dump",
)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into an empty database, completely or not at all.

    The database is migrated to this version's schema first, so the backup may come from an older
    version. Jobs that were running at the time of the backup run again.
    """
    run_async(restore_from(load_settings(data_dir=data_dir), file))
    console().print(f"restored {file}", soft_wrap=True)
