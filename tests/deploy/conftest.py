"""One running service for all that is held against a live one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.live import Live
from tests.support.redis_server import free_port

from luma_memory.cli.processes import running_stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Tests that use it run in the session's loop."""
    port = free_port()
    data_dir = tmp_path_factory.mktemp("live") / "data"
    async with running_stack(data_dir=data_dir, worker_metrics_port=port) as stack:
        yield Live(stack, port)
