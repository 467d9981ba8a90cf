"""The service beside a replica that is killed, paused and brought back under load."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest
from tests.support.load import client_of
from tests.support.postgres_majors import NEWEST

from luma_memory.bootstrap.database import migrate_database
from luma_memory.bootstrap.service import open_service
from luma_memory.cli.checks import check_database
from luma_memory.cli.processes import Stack
from luma_memory.domain.errors import SetupError
from luma_memory.settings import Settings, load_settings
from luma_memory.testing.standby import Streaming, streaming

WAIT_SECONDS = 120.0
USERS = tuple(f"reader-{number}" for number in range(4))
_READS = re.compile(r'luma_replica_reads_total\{outcome="(\w+)"\} (\S+)')


def settings_of(pair: Streaming, **overrides: str) -> Settings:
    given = {"database_url": pair.primary.dsn(), "database_read_url": pair.standby.dsn()}
    return load_settings(host="127.0.0.1", port=0, **(given | overrides))


def _print_about_replica(_name: str, line: str) -> None:
    if "replica" in line:
        print(line)


@asynccontextmanager
async def service_of(pair: Streaming) -> AsyncIterator[Stack]:
    await migrate_database(settings_of(pair), pair.primary.dsn())
    await pair.caught_up()
    stack = Stack(settings_of(pair), workers=1, on_line=_print_about_replica)
    await stack.start()
    try:
        yield stack
    finally:
        await stack.stop()


async def outcomes(client: httpx2.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    return {outcome: float(count) for outcome, count in _READS.findall(text)}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)


@dataclass
class Ledger:
    """The last accepted block of each user, and what the readers saw."""

    last: dict[str, tuple[str, str]] = field(default_factory=dict)  # id and text
    accepted: int = 0
    searches: int = 0
    lists: int = 0
    faults: list[str] = field(default_factory=list)

    async def write(self, client: httpx2.AsyncClient, user: str, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            text = f"Ticket {user}x{number} about the old lighthouse was closed."
            response = await client.post("/blocks", json={"user_id": user, "content": text})
            if response.status_code != 202:
                self.faults.append(f"write: {response.status_code} {response.text}")
            else:
                self.accepted += 1
                self.last[user] = (response.json()["id"], text)
            number += 1
            await asyncio.sleep(0.1)

    async def read(self, client: httpx2.AsyncClient, user: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if user not in self.last:
                await asyncio.sleep(0.05)
                continue
            block_id, text = self.last[user]
            query = {"user_id": user, "query": text, "limit": 20}
            response = await client.post("/search", json=query)
            self._check("search", response, block_id, "results")
            self.searches += 1
            block_id, _ = self.last[user]
            response = await client.get("/blocks", params={"user_id": user, "limit": 100})
            self._check("list", response, block_id, "blocks")
            self.lists += 1

    def _check(self, what: str, response: httpx2.Response, block_id: str, key: str) -> None:
        if response.status_code != 200:
            self.faults.append(f"{what}: {response.status_code} {response.text}")
        elif block_id not in response.text:
            self.faults.append(f"{what}: lacks {block_id}, which was accepted before it")


@asynccontextmanager
async def under_load(client: httpx2.AsyncClient, ledger: Ledger) -> AsyncIterator[None]:
    stop = asyncio.Event()
    work = [ledger.write(client, user, stop) for user in USERS]
    work += [ledger.read(client, user, stop) for user in USERS]
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@pytest.mark.timeout(600)
async def test_every_search_sees_what_was_accepted_before_it_while_the_replica_is_killed() -> None:
    ledger = Ledger()
    async with (
        streaming(NEWEST) as pair,
        service_of(pair) as stack,
        client_of(stack) as client,
    ):

        async def used_more_than(count: float) -> bool:
            return (await outcomes(client)).get("used", 0) > count

        async def is_unused() -> bool:
            return bool((await client.get("/health")).json()["read_replica"] == "unused")

        async def grown(before: int) -> bool:
            return ledger.searches > before + 20

        assert (await client.get("/health")).json()["read_replica"] == "used"
        async with under_load(client, ledger):
            for _ in range(3):
                used = (await outcomes(client)).get("used", 0)
                await until(lambda used=used: used_more_than(used + 20))  # type: ignore[misc]
                await asyncio.to_thread(pair.standby.kill)
                await until(is_unused)
                searches = ledger.searches
                await until(lambda searches=searches: grown(searches))  # type: ignore[misc]
                await asyncio.to_thread(pair.standby.start)
            used = (await outcomes(client)).get("used", 0)
            await until(lambda: used_more_than(used + 20))
            await pair.pause_replay()
            searches = ledger.searches
            await until(lambda: grown(searches))
            await pair.resume_replay()
            used = (await outcomes(client)).get("used", 0)
            await until(lambda: used_more_than(used + 20))
        counts = await outcomes(client)
        health = (await client.get("/health")).json()
    print(f"{ledger.accepted} accepted, {ledger.searches} searches, {ledger.lists} lists: {counts}")
    assert ledger.faults == []
    assert min(counts["behind"], counts["unavailable"]) > 0
    assert (health["status"], health["read_replica"]) == ("ok", "used")


@pytest.fixture
async def pair() -> AsyncIterator[Streaming]:
    async with streaming(NEWEST) as pair:
        await migrate_database(settings_of(pair), pair.primary.dsn())
        await pair.caught_up()
        yield pair


async def test_no_process_starts_with_a_replica_of_another_database(
    pair: Streaming, dsn: str
) -> None:
    for address in (dsn, pair.standby.dsn("postgres")):
        settings = settings_of(pair, database_read_url=address)
        with pytest.raises(SetupError, match="leads to another database than DATABASE_URL"):
            async with open_service(settings, kind="api"):
                pass
        (found,) = [one for one in await check_database(settings) if one.subject == "replica"]
        assert found.verdict == "fail"
    # A worker does not read it.
    async with open_service(settings, kind="worker"):
        pass


async def test_doctor_reports_the_replica(pair: Streaming) -> None:
    async def found(settings: Settings) -> list[tuple[str, str]]:
        findings = [one for one in await check_database(settings) if one.subject == "replica"]
        return [(one.verdict, one.detail) for one in findings]

    ((verdict, detail),) = await found(settings_of(pair))
    assert (verdict, detail[:28]) == ("ok", "a standby of this database, ")
    ((verdict, detail),) = await found(settings_of(pair, database_read_url=pair.primary.dsn()))
    assert verdict == "warn"
    assert "leads to a primary" in detail
    address = pair.standby.dsn().replace("postgres@", "nobody:s3cret-word@")
    ((verdict, detail),) = await found(settings_of(pair, database_read_url=address))
    assert verdict == "warn"
    assert "MEMORY_DATABASE_READ_URL" in detail
    assert "s3cret-word" not in detail
    await asyncio.to_thread(pair.standby.kill)
    ((verdict, detail),) = await found(settings_of(pair))
    assert verdict == "warn"
    assert "The replica does not respond" in detail


async def test_the_embedded_database_has_no_replica(pair: Streaming) -> None:
    settings = load_settings(database_read_url=pair.standby.dsn())
    settings = settings.model_copy(update={"database_url": None})
    with pytest.raises(SetupError, match="needs DATABASE_URL"):
        async with open_service(settings, kind="api"):
            pass
