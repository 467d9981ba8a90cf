"""`backup` and `restore`: all data in one file, or in a folder with several partitions."""

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

_File = Annotated[Path, typer.Argument(metavar="FILE")]
_Partition = Annotated[
    int | None,
    typer.Option("--partition", metavar="N", min=0, help="Only this partition, as one file."),
]


@examples(
    "luma-memory backup memory-2026-03-04.dump",
    "DATABASE_URL=postgresql://… luma-memory backup memory.dump",
)
def backup(file: _File, partition: _Partition = None, data_dir: DataDir = None) -> None:
    """Back up all data into one file without stopping the service.

    The file is a consistent snapshot of all projects and users, including keys and jobs. Its mode
    is 0600: protect it like the database. To export one user, call `GET /users/{user_id}/export`.
    With several partitions it is a folder with a file for each: those of one database are of the
    same moment, and every user is.
    """
    run_async(back_up(load_settings(data_dir=data_dir), file, number=partition))
    files = file.iterdir() if file.is_dir() else [file]
    size = sum(one.stat().st_size for one in files)
    console().print(f"wrote {file} ({size / 1e6:,.1f} MB)", soft_wrap=True)


@examples(
    "luma-memory restore memory-2026-03-04.dump --data-dir new",
    "DATABASE_URL=postgresql://…/empty luma-memory restore memory.dump",
    "luma-memory restore memory --partition 3   the server of partition 3 was replaced",
)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True)],
    partition: Annotated[
        int | None,
        typer.Option(
            "--partition",
            metavar="N",
            min=0,
            help="Only this partition, whose place is empty; the others are left as they are.",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into an empty database, completely or not at all.

    The database is migrated to this version's schema first, so the backup may come from an older
    version. Jobs that were running at the time of the backup run again. The folder of several
    partitions is restored to schemas of the database.
    """
    run_async(restore_from(load_settings(data_dir=data_dir), file, number=partition))
    console().print(f"restored {file}", soft_wrap=True)
