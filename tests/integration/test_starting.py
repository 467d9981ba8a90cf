"""A process that starts before its database waits for it and logs the reason."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from tests.support.late_database import behind, let_in

from luma_memory.bootstrap.starting import open_in_time
from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.settings import Settings


def settings(url: str, **changes: Any) -> Settings:
    return Settings(database_url=SecretStr(url), embedding_enabled=False, **changes)


async def until_logged(logs: list[Any], text: str) -> None:
    async with asyncio.timeout(30):
        while not any(text in line["event"] for line in logs):  # noqa: ASYNC110 - a log, no signal
            await asyncio.sleep(0.01)


async def test_a_start_waits_until_the_database_responds(dsn: str, tmp_path: Path) -> None:
    link = tmp_path / "server"
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            opening = asyncio.create_task(
                open_in_time(stack, settings(behind(link, dsn)), kind="worker")
            )
            await until_logged(logs, "waiting up to 60")
            let_in(link, dsn)
            service = await opening
            assert service is not None
            assert (await service.queue.stats()).pending == 0
    texts = [line["event"] for line in logs]
    assert sum("waiting" in text for text in texts) == 1
    assert "PostgreSQL is available" in texts


async def test_a_start_gives_up_when_its_time_is_over(tmp_path: Path) -> None:
    url = f"postgresql:///memory?host={quote(str(tmp_path / 'nowhere'))}"
    async with AsyncExitStack() as stack:
        with pytest.raises(StoreUnavailable):
            await open_in_time(stack, settings(url, database_wait_seconds=0), kind="api")


async def test_who_waits_can_be_stopped(tmp_path: Path) -> None:
    url = f"postgresql:///memory?host={quote(str(tmp_path / 'nowhere'))}"
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        with capture_logs() as logs:
            opening = asyncio.create_task(
                open_in_time(stack, settings(url), kind="worker", stop=stop)
            )
            await until_logged(logs, "waiting up to")
            stop.set()
            assert await opening is None


async def test_errors_that_waiting_cannot_fix_are_reported_at_once(empty_dsn: str) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(SetupError, match="run `luma-memory migrate`") as refused:
            await open_in_time(stack, settings(empty_dsn), kind="api")
    assert refused.value.code == "schema_missing"
