"""What one partition's trouble means for the others, and for later statements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest
from tests.support.partitions import users_of

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.partition import Layout, Partition
from luma_memory.domain.scope import Scope
from luma_memory.partitions import presence as presence_module
from luma_memory.partitions import webhooks
from luma_memory.partitions.places import FAILURES_MAX, Places, soon
from luma_memory.partitions.presence import PartitionedPresence
from luma_memory.partitions.router import Routed
from luma_memory.partitions.user_locations import look_up
from luma_memory.postgres.database import Database


class Directory:
    """Of two partitions, at first both at the home partition's address."""

    def __init__(self) -> None:
        self.address: str | None = None

    async def read(self, _home: Database) -> Sequence[Partition]:
        return [
            Partition(0, "public", None, "serving"),
            Partition(1, "luma_p1", self.address, "serving"),
        ]

    async def places(self) -> Places:
        home = cast("Database", object())
        return Places(
            await self.read(home),
            home=home,
            open_server=lambda dsn: cast("Database", _Server(dsn)),
            read_directory=self.read,
        )


class _Server:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn


async def test_slow_responses_about_the_state_refuse_no_request() -> None:
    """Health asks for little time; a partition that is only busy still serves its users."""
    places = await Directory().places()

    async def never() -> None:
        await asyncio.Event().wait()

    async def find() -> str:
        return "found"

    for _ in range(FAILURES_MAX):
        with pytest.raises(StoreUnavailable):
            await places.run(1, lambda: soon(never()), writes=False)
    assert [fault.number for fault in places.faults()] == [1]
    assert await places.run(1, find, writes=False) == "found"
    assert places.faults() == []


class Sessions:
    """Stands for `WorkerSession`, and keeps the servers of those that began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.thawed = asyncio.Event()

    def make(self, server: Any, *_values: object, **_options: object) -> Any:
        return _Session(self, getattr(server, "dsn", "home"))


class _Session:
    def __init__(self, sessions: Sessions, server: str) -> None:
        self._sessions = sessions
        self._server = server

    async def begin(self, **_options: object) -> None:
        self._sessions.begun.append(self._server)
        if self._server != "home":
            await self._sessions.thawed.wait()

    async def stop(self) -> None:
        pass


async def test_a_worker_registers_where_a_partition_moves_while_it_still_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions, directory = Sessions(), Directory()
    monkeypatch.setattr(presence_module, "WorkerSession", sessions.make)
    places = await directory.places()
    presence = PartitionedPresence(places, "worker")
    await presence.start(running=lambda: 0, on_signal=None)
    for address in ("second", "third"):
        directory.address = address
        await places.refresh()
        await asyncio.sleep(0)
    assert sessions.begun == ["home", "second"]
    sessions.thawed.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert sessions.begun == ["home", "second", "third"]
    await presence.stop()


async def test_a_webhook_that_was_created_is_reported_as_created() -> None:
    """With an error its secret would be lost, and a repeated request would create another one."""

    class Store:
        async def create(self, _webhook: object, *, webhooks_max: int) -> bool:
            return webhooks_max > 0

        async def definitions(self) -> None:
            raise StoreUnavailable("away since then")

    routed = Routed(await Directory().places(), [Store(), Store()])
    webhook = cast("Any", uuid4())
    assert await webhooks.create(cast("Any", routed), webhook, webhooks_max=1)


async def test_the_place_of_a_user_is_known_when_no_user_is_moved_any_more() -> None:
    """A call that began while users returned ends afterwards: all are at home then."""
    places = await Directory().places()
    user = Scope("default", users_of(1, 2, 1)[0])
    for layout, number in (("home", 0), ("spread", 1)):
        places.layout = cast("Layout", layout)
        (found,) = await look_up(places, [user])
        assert (found.number, found.is_former) == (number, False)
