"""`jobs retry|cancel|clear|enqueue`: change the queue in bounded batches."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Protocol, TypeAlias

import typer

from luma_memory.bootstrap.operators import open_jobs
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
from luma_memory.cli.output import console, print_note, progress
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import OPEN, JobFilter, JobStatus
from luma_memory.pipeline.jobs.job_control import Jobs
from luma_memory.settings import Settings, load_settings

# One statement takes tens of milliseconds, and little is repeated when one fails.
BATCH_JOBS = 1_000
# Each batch scans all waiting blocks, so it is larger.
BATCH_BLOCKS = 5_000
ENQUEUE_HINT = (
    "their blocks stay pending and searchable by terms; `luma-memory jobs enqueue` creates new jobs"
)
_Instant: TypeAlias = datetime
All = Annotated[bool, typer.Option("--all", help="All jobs that no other option excludes.")]


class _Apply(Protocol):
    def __call__(
        self, queue: Jobs, which: JobFilter, /, *, limit: int
    ) -> Awaitable[Sequence[int]]: ...


@dataclass(frozen=True, slots=True)
class _Change:
    """One command's change of many jobs: past participle, confirmation question, function."""

    done: str
    question: str
    statuses: Sequence[JobStatus]
    apply: _Apply


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
            "--failed-after",
            parser=parse_instant,
            metavar="TIME",
            help="Failed at or after this time.",
        ),
    ] = None,
    failed_before: Annotated[
        _Instant | None,
        typer.Option(
            "--failed-before", parser=parse_instant, metavar="TIME", help="Failed before this time."
        ),
    ] = None,
    everything: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Retry failed jobs from their first attempt; cancelled jobs only by id.

    Their blocks are pending enrichment again. Times are as for `jobs list`.
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
    _change(
        _Change("retried", "Retry {}?", which.retryable, Jobs.retry),
        load_settings(data_dir=data_dir),
        which,
        ask=not (yes or ids),
        as_json=as_json,
    )


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
    """Cancel pending and running jobs; results of running ones are discarded.

    Blocks that waited for them become `failed`; their text stays searchable. `jobs retry ID` runs a
    cancelled job again.
    """
    which = JobFilter(project_id=project, user_id=user, ids=ids or None, job_type=job_type)
    _check_narrow(which, everything=everything)
    _change(
        _Change("cancelled", "Cancel {}?", OPEN, Jobs.cancel),
        load_settings(data_dir=data_dir),
        which,
        ask=not yes,
        as_json=as_json,
    )


@examples("luma-memory jobs clear", "luma-memory jobs clear --type weekly_summary --yes")
def jobs_clear(
    job_type: Type = None,
    user: OfUser = None,
    project: Project = None,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Delete pending jobs. Their blocks stay searchable; `jobs enqueue` creates new jobs for them.

    Deleted jobs of types other than enrich_and_embed cannot be recreated.
    """
    which = JobFilter(project_id=project, user_id=user, job_type=job_type)
    cleared = _change(
        _Change("deleted", "Delete {}?", ("pending",), Jobs.clear_pending),
        load_settings(data_dir=data_dir),
        which,
        ask=not yes,
        as_json=as_json,
    )
    if cleared:
        print_note(ENQUEUE_HINT)


@examples("luma-memory jobs enqueue", "luma-memory jobs enqueue --user ada")
def jobs_enqueue(
    user: OfUser = None,
    project: Project = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Create a job for every block that is pending enrichment and has none.

    Use it after `jobs clear` or DELETE FROM memory_jobs. Idempotent.
    """
    enqueued = run_async(_enqueue(load_settings(data_dir=data_dir), project, user))
    _report("enqueued", enqueued, as_json=as_json)


def _change(
    change: _Change, settings: Settings, which: JobFilter, *, ask: bool, as_json: bool
) -> int:
    """Count, confirm, apply and report; returns how many jobs were changed.

    Raises Invalid when a job given by id was not changed, or when there is no terminal to confirm.
    """
    total = run_async(_count(settings, which, change.statuses))
    if total and ask:
        _confirm(change.question, total)
    changed = run_async(_in_batches(change, settings, which, total)) if total else []
    _report(change.done, changed, as_json=as_json)
    _check_named(change.done, which, changed)
    return len(changed)


async def _count(settings: Settings, which: JobFilter, statuses: Sequence[JobStatus]) -> int:
    async with open_jobs(settings) as queue:
        return await queue.count(which, statuses=statuses)


def _confirm(question: str, total: int) -> None:
    if not sys.stdin.isatty():
        raise Invalid(
            f"{_jobs(total)} would change; without a terminal to confirm, add --yes",
            code="confirmation_missing",
        )
    typer.confirm(question.format(_jobs(total)), abort=True, err=True)


async def _in_batches(
    change: _Change, settings: Settings, which: JobFilter, total: int
) -> Sequence[int]:
    """The ids of all changed jobs. Passes every id once, so it skips a job that returns."""
    changed: list[int] = []
    async with open_jobs(settings) as queue:
        with progress(change.done, total) as bar:
            # Not more than were counted: others may enqueue meanwhile.
            while len(changed) < total and (
                batch := await change.apply(queue, which, limit=BATCH_JOBS)
            ):
                changed += batch
                bar.advance(len(batch))
                which = replace(which, above_id=batch[-1])
    return changed


async def _enqueue(settings: Settings, project: str | None, user: str | None) -> Sequence[int]:
    enqueued: list[int] = []
    async with open_jobs(settings) as queue:
        total = await queue.count_waiting(project_id=project, user_id=user)
        with progress("enqueued", total) as bar:
            while len(enqueued) < total and (
                batch := await queue.enqueue_waiting(
                    project_id=project, user_id=user, limit=BATCH_BLOCKS
                )
            ):
                enqueued += batch
                bar.advance(len(batch))
    return enqueued


def _check_narrow(which: JobFilter, *, everything: bool) -> None:
    if not (which.narrows or which.project_id or everything):
        raise typer.BadParameter("select jobs by id, by a filter, or with --all")


def _report(done: str, changed: Sequence[int], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({done: len(changed), "ids": list(changed)}))
    else:
        console().print(f"{done} {_jobs(len(changed))}")


def _check_named(done: str, which: JobFilter, changed: Sequence[int]) -> None:
    missed = sorted(set(which.ids or ()) - set(changed))
    if missed:
        shown = ", ".join(map(str, missed[:20])) + (" …" if len(missed) > 20 else "")
        raise Invalid(
            f"Not {done}: {shown}; the job does not exist, or its status does not allow it"
            " (`luma-memory jobs show ID`)",
            code="jobs_left",
        )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
