"""Every route of a service whose users are in two partitions of one server."""

from __future__ import annotations

from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers
from tests.support.whole_flow import call_every_route


async def test_every_route_works_for_users_of_each_partition(servers: Servers) -> None:
    template = await servers.template(NEWEST, partitions=2)
    async with servers.fresh(NEWEST, template=template) as dsn:
        await call_every_route(dsn, 2)
