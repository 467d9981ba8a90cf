"""`partitions adopt`: split a database with users into partitions while the service runs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from luma_memory.bootstrap.adoption import (
    AdoptionReport,
    AdoptionStep,
    adopt_users,
    return_users,
)
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, print_error, print_note
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.partition import PARTITIONS_MAX
from luma_memory.settings import load_settings

_SHOWN_SECONDS = 2.0
_OF_ONE_USER = frozenset({"copied", "locked", "written", "moved"})
_KEPT = (
    "All users are served, each where they are now: repeat the command to continue, or undo it with"
    " luma-memory partitions adopt --back"
)


@examples(
    "luma-memory partitions adopt --count 8   then restart all processes, and repeat it",
    "luma-memory partitions adopt --back   unites the database again",
)
def partitions_adopt(
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            min=2,
            max=PARTITIONS_MAX,
            help="How many partitions in all, the home partition included.",
        ),
    ] = None,
    schema_prefix: Annotated[
        str,
        typer.Option(
            "--schema-prefix", metavar="PREFIX", help="Schemas get this name and their number."
        ),
    ] = "luma_p",
    back: Annotated[
        bool, typer.Option("--back", help="Move all users back to the home partition.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Split a database that has users into partitions while the service runs.

    The first run creates the partitions, as schemas of the same database. All API and worker
    processes have to be restarted then, to know of them; the command refuses to continue before.
    Repeated, it moves one user after the other, each in one transaction: only that user's writes
    wait, usually for a tenth of a second. An interrupted command continues when it is repeated.
    Move partitions to other servers afterwards with luma-memory partitions move.
    """
    if back == (count is not None):
        raise typer.BadParameter("give either --count or --back")
    settings = load_settings(data_dir=data_dir)
    shown = _Progress()
    if count is None:
        moving = return_users(settings, on_step=shown.show)
    else:
        moving = adopt_users(settings, count, schema_prefix, on_step=shown.show)
    try:
        report = run_async(moving)
    except (KeyboardInterrupt, asyncio.CancelledError, LumaMemoryError, typer.Exit):
        if shown.has_begun:
            print_error(_KEPT)
        raise
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report, is_back=back)


class _Progress:
    """One line for each step, and one every two seconds while users are moved."""

    def __init__(self) -> None:
        self.has_begun = False
        self._shown_at = 0.0

    def show(self, step: AdoptionStep) -> None:
        now = time.monotonic()
        self.has_begun = self.has_begun or step.name != "listed"
        is_shown = step.name == "moved" and now - self._shown_at >= _SHOWN_SECONDS
        if step.name in _OF_ONE_USER and not is_shown:
            return
        self._shown_at = now
        print_note(f"{step.name}: {step.users} users moved, about {step.left} left")


def _print(report: AdoptionReport, *, is_back: bool) -> None:
    if not report.users:
        console().print("No user had to be moved.")
        return
    where = "back to the home partition" if is_back else f"to {report.partitions} partitions"
    console().print(
        f"{report.users} users with {report.rows} rows moved {where}; the longest pause of a user"
        f" took {report.pause_ms_max:.0f} ms"
    )
