"""`partitions move`: move a partition to another schema or server while the service runs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from luma_memory.bootstrap.partition_moves import (
    MoveProgress,
    MoveReport,
    MoveStep,
    SchemaMoveReport,
    move_partition,
    move_schema,
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
    "luma-memory partitions move 3 --to second.internal:5432   to a node of a Citus cluster",
    "luma-memory partitions move 3 --undo   after an interruption",
)
def partitions_move(
    number: Annotated[int, typer.Argument(metavar="N", help="Which partition.", min=1)],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="DSN|NODE",
            help="Address of the database to move to, or host:port of a node of the Citus cluster.",
        ),
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
    if "://" not in to:
        if schema is not None or drop_old:
            raise typer.BadParameter("--schema and --drop-old do not apply to a node of Citus")
        _print_schema_move(
            run_async(move_schema(settings, number, to, on_progress=shown.show_schema)),
            as_json=as_json,
        )
        return
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

    def show_schema(self, progress: MoveProgress) -> None:
        now = time.monotonic()
        if now - self._shown_at >= _SHOWN_SECONDS:
            self._shown_at = now
            copied, all_ = progress.copied / _MIB, progress.bytes / _MIB
            print_note(f"copied {copied:.1f} of {all_:.1f} MiB: {progress.status or 'begun'}")


def _print_schema_move(report: SchemaMoveReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    elif report.source == report.target:
        console().print(f"Partition {report.number} is on {report.target} already")
    else:
        console().print(
            f"Partition {report.number} moved from {report.source} to {report.target}:"
            f" {report.bytes / _MIB:.1f} MiB in {report.seconds:.1f} s"
        )


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
