"""`jobs`: inspect and change the queue in the database, also while the service is down."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import typer

from luma_memory.bootstrap.operators import open_jobs
from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.instants import parse_instant
from luma_memory.cli.jobs_change import jobs_cancel, jobs_clear, jobs_enqueue, jobs_retry
from luma_memory.cli.jobs_options import AsJson, Class, JobIdArgument, OfUser, Project, Type
from luma_memory.cli.jobs_pause import jobs_pause, jobs_resume
from luma_memory.cli.jobs_view import job_table, jobs_table, stats_table
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, print_note
from luma_memory.cli.running import run_async
from luma_memory.domain.job import JOB_ID_MAX, JobFilter, JobRecord, JobStats, JobStatus
from luma_memory.ports.jobs import JobPage
from luma_memory.protocol.jobs import JobBody, JobStatsBody
from luma_memory.settings import Settings, load_settings

LIST_JOBS_MAX = 1_000
_Instant: TypeAlias = datetime


@examples("luma-memory jobs stats", "luma-memory jobs stats --json")
def jobs_stats(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show the number of jobs by status."""
    stats = run_async(_stats(load_settings(data_dir=data_dir)))
    if as_json:
        typer.echo(JobStatsBody.of(stats).model_dump_json(indent=2))
    else:
        console().print(stats_table(stats))


@examples(
    "luma-memory jobs list --status failed --class provider --since 2h",
    "luma-memory jobs list --user ada --limit 200 --json | jq '.jobs[].last_error'",
)
def jobs_list(
    status: Annotated[
        JobStatus | None, typer.Option("--status", help="Only jobs with this status.")
    ] = None,
    job_type: Type = None,
    error_class: Class = None,
    user: OfUser = None,
    project: Project = None,
    since: Annotated[
        _Instant | None,
        typer.Option(
            "--since", parser=parse_instant, metavar="TIME", help="Created at or after this time."
        ),
    ] = None,
    until: Annotated[
        _Instant | None,
        typer.Option(
            "--until", parser=parse_instant, metavar="TIME", help="Created before this time."
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, max=LIST_JOBS_MAX, help="Maximum number of jobs."
        ),
    ] = 50,
    below: Annotated[
        int | None,
        typer.Option(
            "--below", metavar="ID", min=1, max=JOB_ID_MAX, help="Only jobs older than this one."
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show jobs, newest first.

    Times are ISO 8601, UTC without an offset, or ages: 30m, 2h, 7d.
    """
    which = JobFilter(
        project_id=project,
        user_id=user,
        job_type=job_type,
        error_class=error_class,
        created_after=since,
        created_before=until,
        below_id=below or JOB_ID_MAX,
    )
    page = run_async(_page(load_settings(data_dir=data_dir), which, status, limit))
    if as_json:
        typer.echo(json.dumps(_page_facts(page), indent=2, ensure_ascii=False))
        return
    if not page.jobs:
        print_note("no matching jobs")
        return
    console().print(jobs_table(page.jobs))
    if page.next_below is not None:
        print_note(f"more: --below {page.next_below}")


@examples("luma-memory jobs show 4711", "luma-memory jobs show 4711 --json")
def jobs_show(job_id: JobIdArgument, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show a job: its error, attempts, worker and times."""
    job = run_async(_show(load_settings(data_dir=data_dir), job_id))
    if as_json:
        typer.echo(JobBody.of(job).model_dump_json(indent=2))
    else:
        console().print(job_table(job))


async def _stats(settings: Settings) -> JobStats:
    async with open_jobs(settings) as queue:
        return await queue.stats()


async def _page(
    settings: Settings, which: JobFilter, status: JobStatus | None, limit: int
) -> JobPage:
    async with open_jobs(settings) as queue:
        return await queue.page(which, status=status, limit=limit)


async def _show(settings: Settings, job_id: int) -> JobRecord:
    async with open_jobs(settings) as queue:
        return await queue.one(JobFilter(project_id=None, ids=[job_id]))


def _page_facts(page: JobPage) -> dict[str, Any]:
    return {
        "jobs": [JobBody.of(job).model_dump(mode="json") for job in page.jobs],
        "next_below": page.next_below,
    }


jobs = command_group(
    """Inspect the queue; retry, cancel, delete and pause jobs.

    Uses the database directly (DATABASE_URL or the data directory), so it also works while the
    service is down. Commands that change many jobs ask for confirmation unless --yes is given.""",
    (
        *(jobs_stats, jobs_list, jobs_show, jobs_retry, jobs_cancel, jobs_clear, jobs_enqueue),
        *(jobs_pause, jobs_resume),
    ),
    "luma-memory jobs stats",
    "luma-memory jobs list --status failed --since 2h",
    "luma-memory jobs retry --class provider --yes",
    "luma-memory jobs enqueue                        after pending jobs were deleted",
)
