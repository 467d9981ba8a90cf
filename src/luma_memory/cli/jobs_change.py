"""`jobs retry|cancel|clear|enqueue`: what changes the queue, in bounded batches."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, TypeAlias

import typer

from luma_memory.bootstrap import open_jobs
from luma_memory.cli.commands import examples
from luma_memory.cli.instants import parse_instant
from luma_memory.cli.jobs_options import (
    AsJson,
    Class,
    JobIdArguments,
    OfUser,
    Project,
    Type,
    Yes,
)
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, progress, say_note
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import OPEN, JobFilter, JobStatus
from luma_memory.pipeline.job_control import Jobs
from luma_memory.settings import Settings, load_settings

# One statement's worth: tens of milliseconds, and little to repeat when one fails.
BATCH_JOBS = 1_000
# Each batch reads all blocks that wait, so it is a larger one.
BATCH_BLOCKS = 5_000
ENQUEUE_HINT = "their blocks go on waiting, still found by their words: `luma-memory jobs enqueue`"
_Instant: TypeAlias = datetime
_Batch: TypeAlias = Callable[[JobFilter], Awaitable[Sequence[int]]]
All = Annotated[bool, typer.Option("--all", help="Every one, where nothing else is said.")]


@examples(
    "luma-memory jobs retry 4711 4712",
    "luma-memory jobs retry --class provider --failed-after 2h",
    "luma-memory jobs retry --all --yes",
)
def jobs_retry(
    ids: JobIdArguments = None,
    error_class: Class = None,
    job_type: Type = None,
    user: OfUser = None,
    project: Project = None,
    failed_after: Annotated[
        _Instant | None,
        typer.Option(
            "--failed-after", parser=parse_instant, metavar="TIME", help="Failed from then on."
        ),
    ] = None,
    failed_before: Annotated[
        _Instant | None,
        typer.Option(
            "--failed-before", parser=parse_instant, metavar="TIME", help="Failed before."
        ),
    ] = None,
    everything: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Let failed jobs run again from their first attempt; cancelled ones by their id.

    Their blocks wait for enrichment again. Times as for `jobs list`.
    """
    which = JobFilter(
        project_id=project,
        user_id=user,
        ids=ids or None,
        job_type=job_type,
        error_class=error_class,
        finished_after=failed_after,
        finished_before=failed_before,
    )
    _check_narrow(which, everything=everything)
    retried = run_async(_retry(load_settings(data_dir=data_dir), which, ask=not (yes or ids)))
    _report("retried", retried, asked=ids, as_json=as_json)


@examples("luma-memory jobs cancel 4711", "luma-memory jobs cancel --user ada --type reembed")
def jobs_cancel(
    ids: JobIdArguments = None,
    job_type: Type = None,
    user: OfUser = None,
    project: Project = None,
    everything: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Cancel jobs that have not ended; the results of running ones are dropped.

    Blocks that waited for them are marked as failed, their text stays searchable. A cancelled job
    runs again with `jobs retry ID`.
    """
    which = JobFilter(project_id=project, user_id=user, ids=ids or None, job_type=job_type)
    _check_narrow(which, everything=everything)
    cancelled = run_async(_cancel(load_settings(data_dir=data_dir), which, ask=not yes))
    _report("cancelled", cancelled, asked=ids, as_json=as_json)


@examples("luma-memory jobs clear", "luma-memory jobs clear --type weekly_summary --yes")
def jobs_clear(
    job_type: Type = None,
    user: OfUser = None,
    project: Project = None,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Delete pending jobs. Blocks stay, wait and are found; `jobs enqueue` makes new jobs for them.

    Pending jobs of other types than enrich_and_embed are gone for good.
    """
    which = JobFilter(project_id=project, user_id=user, job_type=job_type)
    cleared = run_async(_clear(load_settings(data_dir=data_dir), which, ask=not yes))
    _report("deleted", cleared, asked=None, as_json=as_json)
    if cleared and not as_json:
        say_note(ENQUEUE_HINT)


@examples("luma-memory jobs enqueue", "luma-memory jobs enqueue --user ada")
def jobs_enqueue(
    user: OfUser = None,
    project: Project = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a job for every block that waits for enrichment without one.

    Mends what `jobs clear` or DELETE FROM memory_jobs left behind; running it again does nothing.
    """
    enqueued = run_async(_enqueue(load_settings(data_dir=data_dir), project, user))
    _report("enqueued", enqueued, asked=None, as_json=as_json)


async def _retry(settings: Settings, which: JobFilter, *, ask: bool) -> Sequence[int]:
    async with open_jobs(settings) as queue:
        total = await _agreed(queue, which, which.retryable, "Run {} again?" if ask else None)
        return await _in_batches(
            "run again", total, which, lambda batch: queue.retry(batch, limit=BATCH_JOBS)
        )


async def _cancel(settings: Settings, which: JobFilter, *, ask: bool) -> Sequence[int]:
    async with open_jobs(settings) as queue:
        total = await _agreed(queue, which, OPEN, "Cancel {}?" if ask else None)
        return await _in_batches(
            "cancelled", total, which, lambda batch: queue.cancel(batch, limit=BATCH_JOBS)
        )


async def _clear(settings: Settings, which: JobFilter, *, ask: bool) -> Sequence[int]:
    async with open_jobs(settings) as queue:
        total = await _agreed(queue, which, ["pending"], "Delete {}?" if ask else None)
        return await _in_batches(
            "deleted", total, which, lambda batch: queue.clear_pending(batch, limit=BATCH_JOBS)
        )


async def _enqueue(settings: Settings, project: str | None, user: str | None) -> Sequence[int]:
    enqueued: list[int] = []
    async with open_jobs(settings) as queue:
        total = await queue.count_waiting(project_id=project, user_id=user)
        with progress("enqueued", total) as bar:
            while batch := await queue.enqueue_waiting(
                project_id=project, user_id=user, limit=BATCH_BLOCKS
            ):
                enqueued += batch
                bar.advance(len(batch))
    return enqueued


async def _agreed(
    queue: Jobs, which: JobFilter, statuses: Sequence[JobStatus], question: str | None
) -> int:
    """How many jobs it is about, after the operator has agreed. Raises typer.Abort otherwise."""
    total = await queue.count(which, statuses=statuses)
    if total and question is not None:
        if not sys.stdin.isatty():
            raise Invalid(
                f"{_jobs(total)} would change and nobody can be asked here: add --yes",
                code="confirmation_missing",
            )
        typer.confirm(question.format(_jobs(total)), abort=True, err=True)
    return total


async def _in_batches(title: str, total: int, which: JobFilter, change: _Batch) -> Sequence[int]:
    """The ids of all changed jobs. Every id is passed once, so jobs that come back do not count."""
    changed: list[int] = []
    with progress(title, total) as bar:
        # Not more than there were at first: meanwhile, others enqueue.
        while len(changed) < total and (batch := await change(which)):
            changed += batch
            bar.advance(len(batch))
            which = replace(which, above_id=batch[-1])
    return changed


def _check_narrow(which: JobFilter, *, everything: bool) -> None:
    if not (which.narrows or which.project_id or everything):
        raise typer.BadParameter("say which jobs: ids, a filter, or --all")


def _report(
    done: str, changed: Sequence[int], *, asked: Sequence[int] | None, as_json: bool
) -> None:
    """The result; ends with 1 when a job that was named was not changed."""
    missed = sorted(set(asked or ()) - set(changed))
    if as_json:
        typer.echo(json.dumps({done: len(changed), "ids": list(changed)}))
    else:
        console().print(f"{done} {_jobs(len(changed))}")
    if missed:
        shown = ", ".join(map(str, missed[:20])) + (" …" if len(missed) > 20 else "")
        raise Invalid(
            f"Not {done}: {shown}; such a job does not exist or its state does not allow it"
            " (see `luma-memory jobs show ID`)",
            code="jobs_left",
        )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
