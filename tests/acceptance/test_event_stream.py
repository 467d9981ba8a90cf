"""The stream of events over HTTP: live, resumable, of one's own users alone, and bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.queue_faults import looking_at
from tests.support.server_faults import FaultyServer

from luma_memory.cli.processes import API
from luma_memory.client import (
    AsyncMemoryClient,
    Conflict,
    MemoryClient,
    Retries,
    StreamedEventBody,
)
from luma_memory.domain.access import EVERY_PERMISSION

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> FaultyServer:
    return FaultyServer(tmp_path_factory.mktemp("stream") / "data")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(server: FaultyServer) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(server, worker_poll_interval_ms=100) as opened:
        yield opened


async def client_of(
    keyed: KeyedService, project: str, user_id: str | None = None
) -> AsyncMemoryClient:
    """With a long timeout: a restart is slow on a busy machine."""
    key = await keyed.key(*EVERY_PERMISSION, project_id=project, user_id=user_id)
    retries = Retries(attempts_max=1_000, seconds_max=300, pause_seconds_max=1)
    return AsyncMemoryClient(keyed.stack.base_url, api_key=key, retries=retries)


class Reader:
    """Reads a stream in the background."""

    def __init__(self, events: AsyncIterator[StreamedEventBody]) -> None:
        self.found: list[StreamedEventBody] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._read(events))

    async def _read(self, events: AsyncIterator[StreamedEventBody]) -> None:
        async for event in events:
            self.found.append(event)
            self._more.set()

    async def until(self, count: int) -> list[StreamedEventBody]:
        async with asyncio.timeout(120):
            while len(self.found) < count:
                self._more.clear()
                waiting = asyncio.create_task(self._more.wait())
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                if self._task.done():
                    self._task.result()
        return self.found

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def say(client: AsyncMemoryClient, *users: str) -> list[str]:
    """Store a new block for each user; a repeated text would be the same block, with no event."""
    return [
        str((await client.ingest_block_async({"user_id": user, "content": f"{user} {uuid4()}"})).id)
        for user in users
    ]


async def test_events_arrive_and_a_reader_continues_where_it_stopped(keyed: KeyedService) -> None:
    async with await client_of(keyed, "one") as client:
        position = await client.event_position()
        reader = Reader(client.iterate_events(after=position, event_types=["block.active"]))
        ids = await say(client, *["ada"] * 5)
        found = list(await reader.until(5))
        await reader.stop()
        assert {event.data["block_id"] for event in found} == set(ids)
        assert [event.position for event in found] == sorted({event.position for event in found})
        more = await say(client, "bob", "bob")
        # Without a gap and without a repetition, wherever it stopped.
        for n, event in enumerate(found):
            again = Reader(client.iterate_events(after=event.position))
            rest = await again.until(4 - n + 2)
            await again.stop()
            assert [other.id for other in rest[: 4 - n]] == [other.id for other in found[n + 1 :]]
            assert {other.data["block_id"] for other in rest[4 - n :]} == set(more)


async def test_a_reader_continues_through_a_restart_of_the_api(keyed: KeyedService) -> None:
    async with await client_of(keyed, "restart") as client:
        start = await client.event_position()
        reader = Reader(client.iterate_events(after=start))
        ids = await say(client, "ada", "ada")
        await reader.until(2)
        await keyed.stack.restart(API)
        await keyed.stack.ready()
        ids += await say(client, "ada", "ada")
        found = await reader.until(4)
        await reader.stop()
        assert sorted(event.data["block_id"] for event in found) == sorted(ids)


async def test_a_reader_continues_through_a_restart_of_postgresql(
    keyed: KeyedService, server: FaultyServer
) -> None:
    async with await client_of(keyed, "database") as client:
        start = await client.event_position()
        reader = Reader(client.iterate_events(after=start))
        ids = await say(client, "ada", "ada")
        await reader.until(2)
        await server.kill()
        await server.start_again()
        await keyed.stack.ready()
        ids += await say(client, "ada", "ada")
        found = await reader.until(4)
        await reader.stop()
        assert [event.position for event in found] == sorted({event.position for event in found})
        assert sorted(event.data["block_id"] for event in found) == sorted(ids)


async def test_a_key_of_one_user_and_a_filter_see_their_own_events(keyed: KeyedService) -> None:
    async with (
        await client_of(keyed, "own") as client,
        await client_of(keyed, "own", "bob") as of_bob,
        await client_of(keyed, "other") as foreign,
    ):
        start, foreign_start = await client.event_position(), await foreign.event_position()
        foreign_ids = await say(foreign, "bob", "ada")
        ids = await say(client, "ada", "bob", "ada")
        whole = Reader(client.iterate_events(after=start))
        found = await whole.until(3)
        await whole.stop()
        assert {event.data["block_id"] for event in found} == set(ids)
        for events in (
            of_bob.iterate_events(after=start, follow=False),
            client.iterate_events(after=start, user_id="bob", follow=False),
        ):
            assert [event.data["block_id"] async for event in events] == [ids[1]]
        assert [
            event
            async for event in client.iterate_events(
                after=start, event_types=["job.failed", "block.failed"], follow=False
            )
        ] == []
        with pytest.raises(Exception, match="limited to another user"):
            [event async for event in of_bob.iterate_events(user_id="ada")]
        theirs = Reader(foreign.iterate_events(after=foreign_start))
        assert {e.data["block_id"] for e in await theirs.until(2)} == set(foreign_ids)
        await theirs.stop()


async def test_events_that_were_pruned_are_reported_and_not_skipped(keyed: KeyedService) -> None:
    async with await client_of(keyed, "kept") as client, looking_at(keyed.stack) as connection:
        start = await client.event_position()
        await say(client, "ada", "ada")
        reader = Reader(client.iterate_events(after=start))
        first, second = (await reader.until(2))[:2]
        await reader.stop()
        await connection.execute("SELECT prune_memory_events(now() + interval '1 hour', 100000)")
        # Its readers' row went as well: what follows begins anew.
        for after in (start, first.position):
            with pytest.raises(Conflict) as refused:
                [event async for event in client.iterate_events(after=after, follow=False)]
            assert refused.value.code == "events_expired"
        assert second.position > first.position


async def test_a_browser_continues_with_the_last_events_id(keyed: KeyedService) -> None:
    key = await keyed.key(*EVERY_PERMISSION, project_id="browser")
    async with AsyncMemoryClient(keyed.stack.base_url, api_key=key) as client:
        start = await client.event_position()
        await say(client, "ada", "ada", "ada")
        reader = Reader(client.iterate_events(after=start))
        found = list(await reader.until(3))
        await reader.stop()
    async with keyed.client(key) as http:
        headers = {"Last-Event-ID": str(found[1].position)}
        response = await http.get(
            "/events", params={"after": start, "wait_seconds": 0}, headers=headers
        )
        assert response.headers["content-type"].startswith("text/event-stream")
        assert [line for line in response.text.splitlines() if line.startswith("event:")] == [
            "event: block.active"
        ]
        assert f"id: {found[2].position}\n" in response.text
        wrong = await http.get("/events", headers={"Last-Event-ID": "x"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "position_invalid")


async def test_the_synchronous_client_reads_the_stream(keyed: KeyedService) -> None:
    key = await keyed.key(*EVERY_PERMISSION, project_id="sync")
    async with AsyncMemoryClient(keyed.stack.base_url, api_key=key) as client:
        start = await client.event_position()
        await say(client, "ada", "ada")

    def read() -> list[str]:
        with MemoryClient(keyed.stack.base_url, api_key=key) as memory:
            return [event.type for event in itertools.islice(memory.iterate_events(after=start), 2)]

    assert await asyncio.to_thread(read) == ["block.active"] * 2
