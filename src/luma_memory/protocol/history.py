"""The history of the service's numbers on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field

from luma_memory.domain.history import BUCKETS, History, Resolution


class HistoryBody(BaseModel):
    """Numbers of all processes together, one value a bucket."""

    resolution: Resolution
    bucket_seconds: int
    times: list[int] = Field(
        description="Starts of the buckets in Unix seconds, ascending, without a gap. The last one"
        " is not complete."
    )
    series: dict[str, list[float | None]] = Field(
        description="By name, a value for each of `times`; null where nothing is known. Counts"
        " within the bucket: requests, request_errors, accepted, searches, contexts,"
        " jobs_completed, job_failures, cache_hits, cache_misses. Estimated milliseconds, each"
        " with _p50, _p95 and _p99: accept_ms, search_ms, context_ms, job_ms. Highest values:"
        " jobs_pending, jobs_processing, jobs_failed, oldest_pending_seconds, workers,"
        " open_circuits."
    )

    @classmethod
    def of(cls, history: History) -> HistoryBody:
        return cls(
            resolution=history.resolution,
            bucket_seconds=int(BUCKETS[history.resolution].total_seconds()),
            times=[int(at.timestamp()) for at in history.times],
            series={name: list(values) for name, values in history.series.items()},
        )
