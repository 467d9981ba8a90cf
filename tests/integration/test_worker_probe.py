"""The HTTP responses of a worker's port."""

from __future__ import annotations

import re
import socket

import httpx2
import pytest
from tests.support.running import ingest

from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.settings import Settings
from luma_memory.telemetry.events import JobCompleted, Notice
from luma_memory.telemetry.metrics import Metrics
from luma_memory.testing.event_log import EventLog
from luma_memory.worker.probe import serve_probe


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_it_reports_liveness_and_metrics(port: int, database: Database) -> None:
    metrics, events = Metrics(), EventLog()
    metrics(JobCompleted(job_id=1, job_type="enrich_and_embed", duration_ms=40))
    async with (
        serve_probe(
            Settings(worker_metrics_port=port),
            metrics.registry,
            queue=PostgresJobQueue(database),
            emit=events,
        ),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        while True:
            try:
                live = await client.get("/health/live")
                break
            except httpx2.ConnectError:
                continue
        assert (live.status_code, live.json()) == (200, {"live": True})
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        assert 'luma_job_seconds_count{job_type="enrich_and_embed"} 1.0' in response.text
        assert "luma_oldest_pending_seconds 0.0" in response.text
        await ingest(database)
        response = await client.get("/metrics")
        waited = re.search(r"^luma_oldest_pending_seconds (\S+)$", response.text, re.MULTILINE)
        assert waited is not None
        assert float(waited[1]) > 0
        assert (await client.get("/api/v1/memory/blocks")).status_code == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_a_port_in_use_is_logged_and_the_worker_runs_without_it(database: Database) -> None:
    events = EventLog()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(worker_metrics_port=taken.getsockname()[1])
        async with serve_probe(
            settings, Metrics().registry, queue=PostgresJobQueue(database), emit=events
        ):
            (notice,) = await events.wait_for(Notice)
    assert notice.level == "warning"
    assert "runs without metrics" in notice.text


async def test_without_a_port_nothing_listens(database: Database) -> None:
    events = EventLog()
    async with serve_probe(
        Settings(), Metrics().registry, queue=PostgresJobQueue(database), emit=events
    ):
        pass
