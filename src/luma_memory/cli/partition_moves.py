"""`partitions move`: move a partition to another schema or server while the service runs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from luma_memory.bootstrap.partition_moves import (
    MoveReport,
    MoveStep,
    move_partition,
    undo_move,
)
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, print_error, print_note
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.settings import load_settings

_MIB = 1 << 20
_SHOWN_SECONDS = 2.0
_KEPT = "The copy is kept: repeat the command to continue, or undo the move with --undo"


@examples(
    "luma-memory partitions move 3 --to postgresql://memory@second.internal/memory",
    "luma-memory partitions move 3 --undo   after an interruption",
)
def partitions_move(
    number: Annotated[int, typer.Argument(metavar="N", help="Which partition.", min=1)],
    to: Annotated[
        str | None, typer.Option("--to", metavar="DSN", help="Address of the database to move to.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="NAME", help="New schema; by default the same name."),
    ] = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Empty the old tables afterwards.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove what an interrupted move left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Move a partition to another database while the service runs.

    Its rows are copied while it serves; then writes of its users wait for a moment while the last
    changes are copied and compared. An interrupted command continues when it is repeated.
    """
    if undo == (to is not None):
        raise typer.BadParameter("give either --to or --undo")
    settings = load_settings(data_dir=data_dir)
    if to is None:
        run_async(undo_move(settings, number))
        print_note(f"The move of partition {number} is undone: it serves where it was.")
        return
    shown = _Progress()
    moving = move_partition(settings, number, to, schema, drop_old=drop_old, on_step=shown.show)
    try:
        report = run_async(moving)
    except (KeyboardInterrupt, asyncio.CancelledError, StoreUnavailable, typer.Exit):
        if shown.has_begun:
            print_error(_KEPT)
        raise
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report, is_dropped=drop_old)


class _Progress:
    """One line for each step, and one every two seconds while rows are copied."""

    def __init__(self) -> None:
        self.has_begun = False
        self._shown_at = 0.0

    def show(self, step: MoveStep) -> None:
        self.has_begun = True
        now = time.monotonic()
        if step.name == "copied a chunk" and now - self._shown_at < _SHOWN_SECONDS:
            return
        self._shown_at = now
        table = "" if step.table is None else f" of {step.table}"
        amount = f"{step.amount.rows} rows, {step.amount.bytes / _MIB:.1f} MiB"
        print_note(f"{step.name}{table}: {amount}, {step.rounds} rounds")


def _print(report: MoveReport, *, is_dropped: bool) -> None:
    pause = "" if report.pause_ms is None else f", writes paused for {report.pause_ms:.0f} ms"
    console().print(
        f"Partition {report.number} moved: {report.rows} rows, {report.bytes / _MIB:.1f} MiB in"
        f" {report.rounds} rounds{pause}"
    )
    if not is_dropped:
        print_note(
            f"The old tables are kept in the schema {report.old_schema} of the old database; no"
            " process uses them"
        )
