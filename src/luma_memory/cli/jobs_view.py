"""Tables of jobs and queue statistics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from luma_memory.cli.output import plain, shortened
from luma_memory.domain.job import AttemptError, JobRecord, JobStats, JobStatus, Paused

_STYLES: dict[JobStatus, str] = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "dim",
}
_ERROR_CHARACTERS = 60


def stats_table(stats: JobStats) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("pending", "processing", "completed", "failed", "deferred", "oldest pending"):
        table.add_column(name, justify="right")
    oldest = stats.oldest_pending_seconds
    table.add_row(
        f"{stats.pending:,}",
        f"{stats.processing:,}",
        f"{stats.completed:,}",
        f"{stats.failed:,}",
        f"{stats.deferred:,}",
        "-" if oldest is None else f"{oldest:,.1f} s",
    )
    if stats.paused:
        table.caption = paused_line(stats.paused)
        table.caption_style = "bold yellow"
    return table


def paused_line(paused: Sequence[Paused]) -> str:
    """The paused job types, as a sentence."""
    if not paused:
        return "nothing is paused"
    if "all" in paused:
        return "paused: the whole queue (luma-memory jobs resume)"
    types = ", ".join(paused)
    return f"paused: {types} (luma-memory jobs resume)"


def jobs_table(jobs: Sequence[JobRecord]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", justify="right", no_wrap=True)
    for name in ("status", "type", "user"):
        table.add_column(name, no_wrap=name != "user", overflow="fold")
    table.add_column("attempts", justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True, style="cyan")
    table.add_column("error", ratio=1, overflow="fold")
    for job in jobs:
        table.add_row(
            str(job.id),
            _status(job),
            job.job_type,
            plain(job.scope.user_id),
            f"{job.attempts}/{job.max_attempts}",
            _instant(job.created_at),
            plain(shortened(_error(job), _ERROR_CHARACTERS)),
        )
    return table


def job_table(job: JobRecord) -> Table:
    """One job, one field per line; empty fields are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(job):
        if value is not None:
            style = _STYLES[job.status] if name == "status" else ""
            table.add_row(name, plain(_shown(value), style=style))
    for error in job.attempt_errors:
        table.add_row(f"attempt {error.attempt}", plain(_attempt(error)))
    return table


def _facts(job: JobRecord) -> Sequence[tuple[str, object]]:
    return (
        ("id", job.id),
        ("status", job.status),
        ("type", job.job_type),
        ("project", job.scope.project_id),
        ("user", job.scope.user_id),
        ("block", job.block_id),
        ("attempts", f"{job.attempts} of {job.max_attempts}"),
        ("worker", job.locked_by),
        ("error class", job.error_class),
        ("error", job.last_error),
        ("priority", job.priority),
        ("unique key", job.unique_key),
        ("payload", json.dumps(job.payload, ensure_ascii=False) if job.payload else None),
        ("created", job.created_at),
        ("not before", job.run_at),
        ("started", job.started_at),
        ("lease until", job.locked_until),
        ("ended", job.finished_at),
    )


def _attempt(error: AttemptError) -> str:
    where = f" on {error.worker}" if error.worker else ""
    return f"{_instant(error.at)}{where}: {error.error_class}: {error.message}"


def _shown(value: object) -> str:
    return _instant(value) if isinstance(value, datetime) else str(value)


def _status(job: JobRecord) -> Text:
    return Text(job.status, style=_STYLES[job.status])


def _error(job: JobRecord) -> str:
    return ": ".join(part for part in (job.error_class, job.last_error) if part)


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") + "Z"
