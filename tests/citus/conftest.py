"""Partitions on the nodes of a Citus cluster; see tests/support/citus.py for what it takes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.citus import START, URL, Cluster, fresh_cluster

PARTITIONS = 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if URL not in os.environ:
            item.add_marker(pytest.mark.skip(reason=f"{URL} names no Citus cluster"))
        elif START not in os.environ and item.get_closest_marker("kills_nodes"):
            item.add_marker(pytest.mark.skip(reason=f"{START} names no command to start a node"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with fresh_cluster(partitions=PARTITIONS) as cluster:
        yield cluster
