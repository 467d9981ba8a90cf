"""The whole service as its users meet it: separate processes, reached over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import Stack, running_stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """API, one worker and a database of their own, in a path with a space; shared by a module."""
    data_dir: Path = tmp_path_factory.mktemp("service") / "data dir"
    async with running_stack(data_dir=data_dir) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to the stack's API; paths are relative to its base path."""
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
    ) as opened:
        yield opened
