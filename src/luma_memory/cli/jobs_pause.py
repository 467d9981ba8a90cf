"""`jobs pause|resume`: stop workers from claiming jobs, and let them claim again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_jobs
from luma_memory.cli.commands import examples
from luma_memory.cli.jobs_options import AsJson
from luma_memory.cli.jobs_view import paused_line
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console
from luma_memory.cli.running import run_async
from luma_memory.domain.job import JobType, Paused
from luma_memory.settings import Settings, load_settings

_Paused = Annotated[
    JobType | None, typer.Option("--type", help="Only jobs of this type; all by default.")
]
_Resumed = Annotated[
    JobType | None,
    typer.Option("--type", help="Only jobs of this type; whatever is paused by default."),
]


@examples("luma-memory jobs pause", "luma-memory jobs pause --type weekly_summary")
def jobs_pause(job_type: _Paused = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Stop all workers from claiming jobs, of one type or of all.

    Running jobs end. Blocks are accepted meanwhile and found by their words; their jobs wait.
    Survives restarts, until `jobs resume`.
    """
    _report(run_async(_pause(load_settings(data_dir=data_dir), job_type)), as_json=as_json)


@examples("luma-memory jobs resume", "luma-memory jobs resume --type weekly_summary")
def jobs_resume(
    job_type: _Resumed = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Let workers claim jobs again, of one type or of everything paused."""
    _report(run_async(_resume(load_settings(data_dir=data_dir), job_type)), as_json=as_json)


async def _pause(settings: Settings, job_type: JobType | None) -> Sequence[Paused]:
    async with open_jobs(settings) as queue:
        return await queue.pause(job_type)


async def _resume(settings: Settings, job_type: JobType | None) -> Sequence[Paused]:
    async with open_jobs(settings) as queue:
        return await queue.resume(job_type)


def _report(paused: Sequence[Paused], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"paused": list(paused)}))
    else:
        console().print(paused_line(paused))
