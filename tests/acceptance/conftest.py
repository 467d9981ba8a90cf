"""The whole service as its users meet it: separate processes, reached over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import pytest_asyncio
from tests.support.partitions import chosen_partitions
from tests.support.servers import Servers
from tests.support.service import BASE_PATH
from tests.support.stacks import kept_open, running_service

from luma_memory.cli.processes import Stack


@pytest.fixture
async def dsn(servers: Servers, major: int) -> AsyncIterator[str]:
    """As elsewhere, with TEST_PARTITIONS partitions."""
    template = await servers.template(major, partitions=chosen_partitions())
    async with servers.fresh(major, template=template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def shared_stack(servers: Servers) -> Iterator[Stack]:
    """API and worker with the default settings, shared by all modules of a test process."""
    with kept_open(lambda: running_service(servers)) as running:
        yield running


@pytest.fixture(scope="module")
def stack(shared_stack: Stack) -> Stack:
    """The shared service: use user ids of your own, and neither restart it nor await its methods.

    A module that needs other settings, restarts or faults defines its own fixture of this name.
    """
    return shared_stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to the stack's API; paths are relative to its base path."""
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
    ) as opened:
        yield opened
