"""The whole flow over every route, with users in partitions on both nodes, and mem0's routes."""

from __future__ import annotations

import pytest
from tests.citus.conftest import PARTITIONS
from tests.support.citus import Cluster
from tests.support.whole_flow import call_every_route

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_route_works_for_users_on_each_node(cluster: Cluster) -> None:
    await call_every_route(cluster.address, PARTITIONS)
