"""kill -9 of workers and API while receivers fail: every committed event is delivered under its id.

The ledger is the outbox itself: what was committed there must arrive, and what was rolled back must
not. Receivers fail in every way at once, and those that work are not held up by the others.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from aiohttp import web
from tests.fakes.webhook_receiver import Behavior, Received, WebhookReceiver, hangs, responds
from tests.support.queue_faults import looking_at, until_true
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import API, Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKERS = ["worker-1", "worker-2"]
WORKING = ["/well", "/slow", "/recovers"]
USERS = [f"user-{n}" for n in range(7)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    data_dir: Path = tmp_path_factory.mktemp("webhook faults") / "data"
    async with running_stack(
        data_dir=data_dir,
        workers=len(WORKERS),
        webhooks_allow_private=True,
        webhook_retry_ms=20,
        webhook_timeout_ms=3_000,
        worker_poll_interval_ms=200,
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("events", "kills"),
    [(400, 6), pytest.param(10_000, 20, marks=pytest.mark.slow)],
)
async def test_every_committed_event_is_delivered_and_no_other(
    stack: Stack, events: int, kills: int
) -> None:
    chance = random.Random(20_261_130)
    project = f"p{events}"
    async with WebhookReceiver() as receiver, looking_at(stack) as connection:
        receiver.behaviors |= {
            "/slow": _slow(0.05),
            "/recovers": _half(chance),
            "/hangs": hangs,
            "/gone": responds(410),
        }
        for path in (*WORKING, "/hangs", "/gone"):
            await _add_webhook(connection, project, receiver.url(path))
        writing = asyncio.create_task(_write(connection, project, events, chance))
        for n in range(kills):
            goal = (n + 1) * events // (2 * kills)
            await receiver.until(lambda goal=goal: len(receiver.ids("/well")) >= goal)  # type: ignore[misc]
            victim = chance.choice([API, *WORKERS])
            stack.children[victim].signal(signal.SIGKILL)
            await stack.restart(victim)
            await stack.ready()
        await writing
        committed = {
            f"evt_{row['event_id'].hex}"
            for row in await connection.fetch(
                "SELECT event_id FROM memory_events WHERE project_id = $1", project
            )
        }
        assert len(committed) == events
        # The hanging receiver still hangs.
        for path in WORKING:
            await receiver.until(lambda path=path: len(receiver.ids(path)) >= events)  # type: ignore[misc]
            assert receiver.ids(path) == committed
        assert receiver.ids("/hangs") <= committed
        assert not any(b"rolled back" in request.body for request in receiver.requests)
        bodies = {(request.event_id, request.body) for request in receiver.requests}
        assert len(bodies) == len(committed)  # one id, one body
        await until_true(
            connection,
            "NOT EXISTS (SELECT FROM memory_webhook_deliveries AS d JOIN memory_webhooks AS w"
            " ON w.id = d.webhook_id WHERE w.project_id = $1 AND d.status = 'pending'"
            " AND w.url !~ '(hangs|gone)$')",
            project,
        )
        (gone,) = await connection.fetch(
            "SELECT disabled_at FROM memory_webhooks WHERE project_id = $1 AND url LIKE '%/gone'",
            project,
        )
        assert gone["disabled_at"] is not None
        await connection.execute("DELETE FROM memory_webhooks WHERE project_id = $1", project)


async def test_blocks_that_become_active_under_kills_are_all_reported(stack: Stack) -> None:
    """The event is in the statement that makes the block active: as many events as blocks."""
    chance = random.Random(7)
    async with (
        WebhookReceiver() as receiver,
        looking_at(stack) as connection,
        httpx2.AsyncClient(
            base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
        ) as client,
    ):
        await _add_webhook(connection, "default", receiver.url("/blocks"))
        ids: set[str] = set()
        for n in range(4):
            blocks = [
                {"user_id": chance.choice(USERS), "content": f"Batch {n}, block {m}."}
                for m in range(25)
            ]
            response = await client.post("/blocks/batch", json={"blocks": blocks})
            ids |= {item["id"] for item in response.json()["results"]}
            victim = chance.choice(WORKERS)
            stack.children[victim].signal(signal.SIGKILL)
            await stack.restart(victim)
        await receiver.until(lambda: len(receiver.ids("/blocks")) >= len(ids))
        of_block = {r.event["data"]["block_id"]: r.event_id for r in receiver.at("/blocks")}
        assert set(of_block) == ids
        assert len(receiver.ids("/blocks")) == len(ids) == 100


async def _add_webhook(connection: asyncpg.Connection, project: str, url: str) -> None:
    await connection.execute(
        "INSERT INTO memory_webhooks (id, project_id, url, event_types, created_at, updated_at)"
        " VALUES ($1, $2, $3, ARRAY['block.active'], now(), now())",
        uuid4(),
        project,
        url,
    )


async def _write(
    connection: asyncpg.Connection, project: str, events: int, chance: random.Random
) -> None:
    """Events as the service writes them, some in transactions that are rolled back."""
    written = 0
    while written < events:
        count = min(chance.randint(1, 20), events - written)
        is_kept = chance.random() < 0.8
        users = [chance.choice(USERS) if is_kept else "rolled back" for _ in range(count)]
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "SELECT record_memory_events('block.active', $1, $2, $3, NULL)",
            [project] * count,
            users,
            [uuid4() for _ in users],
        )
        if is_kept:
            await transaction.commit()
            written += count
        else:
            await transaction.rollback()
        await asyncio.sleep(0)


def _slow(seconds: float) -> Behavior:
    async def respond(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response()

    return respond


def _half(chance: random.Random) -> Behavior:
    """Fails every other time, for as long as a webhook may: then it recovers."""
    left = 40

    async def respond(_received: Received) -> web.StreamResponse:
        nonlocal left
        if left and chance.random() < 0.5:
            left -= 1
            return web.Response(status=500)
        return web.Response()

    return respond
