"""The queue: list, retry, cancel and pause jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import read, segment, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.domain.job import ErrorClass, JobStatus, JobType
from luma_memory.protocol.jobs import (
    CancelResponse,
    JobBody,
    JobPageBody,
    JobStatsBody,
    OpenStatus,
    PausedResponse,
    RetryResponse,
)


class Jobs(Connection):
    """Jobs of the key's project, or of one of its users."""

    async def list_jobs(
        self,
        *,
        status: JobStatus | None = None,
        job_type: JobType | None = None,
        user_id: str | None = None,
        error_class: ErrorClass | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPageBody:
        """One page of jobs, newest first."""
        call = read(
            "/jobs",
            status=status,
            job_type=job_type,
            user_id=user_id,
            error_class=error_class,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            cursor=cursor,
        )
        return parsed(JobPageBody, await self._send(call))

    async def iterate_jobs(
        self,
        *,
        status: JobStatus | None = None,
        job_type: JobType | None = None,
        user_id: str | None = None,
        error_class: ErrorClass | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[JobBody]:
        """All jobs, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = await self.list_jobs(
                status=status,
                job_type=job_type,
                user_id=user_id,
                error_class=error_class,
                created_after=created_after,
                created_before=created_before,
                limit=page_size,
                cursor=cursor,
            )
            for job in page.jobs:
                yield job
            if (cursor := page.next_cursor) is None:
                return

    async def get_job(self, job_id: int, *, user_id: str | None = None) -> JobBody:
        """One job. user_id: require a job of this user."""
        call = read(f"/jobs/{segment(job_id)}", user_id=user_id)
        return parsed(JobBody, await self._send(call))

    async def job_stats(self) -> JobStatsBody:
        """Statistics of the whole queue."""
        return parsed(JobStatsBody, await self._send(read("/jobs/stats")))

    async def pause_jobs(
        self, *, job_type: JobType | None = None, idempotency_key: str | None = None
    ) -> PausedResponse:
        """Stop workers from claiming jobs of a type, or any job, of all projects."""
        return await self._claims("pause", job_type, idempotency_key)

    async def resume_jobs(
        self, *, job_type: JobType | None = None, idempotency_key: str | None = None
    ) -> PausedResponse:
        """Let workers claim jobs of a type again, or everything that was paused."""
        return await self._claims("resume", job_type, idempotency_key)

    async def retry_jobs(
        self,
        *,
        ids: Sequence[int] | None = None,
        user_id: str | None = None,
        job_type: JobType | None = None,
        error_class: ErrorClass | None = None,
        failed_after: datetime | None = None,
        failed_before: datetime | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        all_failed: bool = False,
        limit: int | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> RetryResponse:
        """Retry the failed jobs that match all filters, or `all_failed`.

        dry_run: only count them, as `matched`.
        """
        body = without_none(
            ids=ids,
            user_id=user_id,
            job_type=job_type,
            error_class=error_class,
            failed_after=failed_after,
            failed_before=failed_before,
            created_after=created_after,
            created_before=created_before,
            all=all_failed or None,
            limit=limit,
            dry_run=dry_run or None,
        )
        call = write("POST", "/jobs/retry", body, idempotency_key=idempotency_key)
        return parsed(RetryResponse, await self._send(call))

    async def cancel_jobs(
        self,
        *,
        ids: Sequence[int] | None = None,
        user_id: str | None = None,
        job_type: JobType | None = None,
        status: OpenStatus | None = None,
        error_class: ErrorClass | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        all_open: bool = False,
        limit: int | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> CancelResponse:
        """Cancel the open jobs that match all filters, or `all_open`.

        dry_run: only count them, as `matched`.
        """
        body = without_none(
            ids=ids,
            user_id=user_id,
            job_type=job_type,
            status=status,
            error_class=error_class,
            created_after=created_after,
            created_before=created_before,
            all=all_open or None,
            limit=limit,
            dry_run=dry_run or None,
        )
        call = write("POST", "/jobs/cancel", body, idempotency_key=idempotency_key)
        return parsed(CancelResponse, await self._send(call))

    async def retry_job(
        self, job_id: int, *, user_id: str | None = None, idempotency_key: str | None = None
    ) -> JobBody:
        """Retry a failed or cancelled job."""
        return await self._change(job_id, "retry", user_id, idempotency_key)

    async def cancel_job(
        self, job_id: int, *, user_id: str | None = None, idempotency_key: str | None = None
    ) -> JobBody:
        """Cancel a job that has not ended; the result of a running one is discarded."""
        return await self._change(job_id, "cancel", user_id, idempotency_key)

    async def _claims(
        self, change: str, job_type: JobType | None, idempotency_key: str | None
    ) -> PausedResponse:
        body = without_none(job_type=job_type)
        call = write("POST", f"/jobs/{change}", body, idempotency_key=idempotency_key)
        return parsed(PausedResponse, await self._send(call))

    async def _change(
        self, job_id: int, change: str, user_id: str | None, idempotency_key: str | None
    ) -> JobBody:
        path = f"/jobs/{segment(job_id)}/{change}"
        call = write("POST", path, idempotency_key=idempotency_key, user_id=user_id)
        return parsed(JobBody, await self._send(call))
