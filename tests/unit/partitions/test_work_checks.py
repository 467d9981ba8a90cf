"""Checks for work find a server again that did not respond for a while."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.partition import Partition
from luma_memory.partitions import places as places_module
from luma_memory.partitions.places import FAILURES_MAX, RETRY_SECONDS, Places
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.postgres.database import Database


class Server:
    """Has one due partition; its statements fail while `is_away`."""

    is_away = False

    async def coordinates_nodes(self) -> bool:
        return False

    async def fetch(self, _statement: str) -> Sequence[dict[str, Any]]:
        if self.is_away:
            raise StoreUnavailable("away")
        return [{"number": 0, "is_due": True, "is_busy": False, "has_webhooks": False}]


async def test_a_server_is_tried_again_however_often_it_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each check that was refused because of earlier failures put off the next attempt."""
    now = 0.0
    monkeypatch.setattr(places_module, "time", SimpleNamespace(monotonic=lambda: now))
    server = Server()

    async def no_directory(_home: Database) -> Sequence[Partition]:
        return []

    places = Places(
        [Partition(0, "public", None, "serving")],
        home=cast("Database", server),
        open_server=lambda _dsn: cast("Database", server),
        read_directory=no_directory,
    )
    checks = WorkChecks(places, poll_seconds=1.0)
    due: list[int] = []
    checks.subscribe(due.extend)

    async def check() -> None:
        checks.expire()
        await checks.fresh(is_idle=True)

    server.is_away = True
    for _ in range(FAILURES_MAX):
        with pytest.raises(StoreUnavailable):
            await check()
    server.is_away = False
    checks_made = 4
    for _ in range(checks_made - 1):
        now += RETRY_SECONDS / checks_made
        with pytest.raises(StoreUnavailable):
            await check()
    now += RETRY_SECONDS / checks_made
    await check()
    assert due == [0]
