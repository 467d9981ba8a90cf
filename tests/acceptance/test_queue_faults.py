"""The queue under faults, with separate processes: kills, stops, hangs, floods, outages.

Short forms run with the other tests, long ones with `make faults`. What a test measured is printed
(`pytest -s`, or the report's property "measured").
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.fakes.openai_server import FakeOpenAI, hang, late
from tests.support import deadly_worker
from tests.support.load import (
    Ledger,
    assert_promises_kept,
    blocks_of,
    client_of,
    load,
    until_settled,
)
from tests.support.machine_load import within
from tests.support.queue_faults import (
    RETRY_SECONDS,
    Lines,
    Measured,
    accept,
    looking_at,
    measured,
    until_true,
)
from tests.support.server_faults import FaultyServer, filled, service_on, small_disk

from luma_memory.cli.child import Child
from luma_memory.cli.environment import settings_environment
from luma_memory.cli.processes import Stack, running_stack

__all__ = ["measured"]  # the fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
STARTED = "Memory Worker Starting"
HEAL_SECONDS_MAX = 30.0
# Of this test: the database is shared, and a job of another one may be for later.
HIT_JOBS = "SELECT count(*) FROM memory_jobs WHERE attempts > 1"
UNSTARTED = "count(*) = 0 FROM memory_jobs WHERE started_at IS NULL AND user_id = 'cut'"
slow = pytest.mark.slow
Served: TypeAlias = tuple[FaultyServer, Stack]


async def until_block_is(
    client: httpx2.AsyncClient, block_id: str, user_id: str, status: str
) -> Any:
    """The block, once it has that status."""
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await client.get(f"/blocks/{block_id}", params={"user_id": user_id})
            block = response.json()
            if block.get("status") == status:
                return block
            await asyncio.sleep(0.02)


# Killed workers


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=slow)])
async def test_workers_killed_at_random_moments_lose_and_double_nothing(
    kills: int, tmp_path: Path, measured: Measured
) -> None:
    chance = random.Random(20_261_123)
    lines, ledger = Lines(), Ledger("kills")
    starts = dict.fromkeys(["worker-1", "worker-2", "worker-3"], 1)

    def at_work() -> list[str]:
        return [name for name, number in starts.items() if lines.count(name, STARTED) >= number]

    async with running_stack(
        data_dir=tmp_path / "data",
        workers=len(starts),
        on_line=lines,
        retry_attempts=20,  # one job may meet several of so many kills
    ) as stack:
        async with looking_at(stack) as table, load(stack, ledger, senders=3, pace_seconds=0.06):
            for number in range(10 * kills):
                # A fast machine may take several more kills until one hits a running job.
                if number >= kills and await table.fetchval(HIT_JOBS):
                    break
                await ledger.grow_by(chance.randint(1, 40))
                await lines.until(lambda: bool(at_work()))
                victim = chance.choice(at_work())
                starts[victim] += 1
                stack.children[victim].signal(signal.SIGKILL)
                await stack.restart(victim)
        async with client_of(stack) as client, looking_at(stack) as table:
            measured("seconds to settle", round(await until_settled(client), 1))
            await assert_promises_kept(client, ledger)
            attempts = await table.fetch("SELECT attempts FROM memory_jobs WHERE attempts > 1")
            spent = Counter(row["attempts"] for row in attempts)
            measured("jobs by the attempts they needed", sorted(spent.items()))
            assert attempts  # the kills hit running jobs
            # A second enrichment of one block would have left the first as a revision.
            assert await table.fetchval("SELECT count(*) FROM memory_block_revisions") == 0


# Stopped workers


@pytest.mark.parametrize("by_its_lease", [False, pytest.param(True, marks=slow)])
async def test_a_stopped_worker_that_wakes_up_late_changes_nothing(
    by_its_lease: bool, tmp_path: Path, measured: Measured
) -> None:
    """A stopped worker keeps its lock, so that only the lease shows that it is not running.

    The short form ends the lease by hand; the stopped worker then wakes up with its result.
    """
    lines = Lines()
    with FakeOpenAI(dimension=1_536) as provider:
        provider.script(late(3.0), late(3.0))  # the first run: its two calls
        overrides = {"worker_job_timeout_ms": 5_000} if by_its_lease else {}
        async with (
            running_stack(
                data_dir=tmp_path / "data",
                workers=2,
                on_line=lines,
                openai_base_url=provider.base_url,
                **overrides,
            ) as stack,
            client_of(stack) as client,
            looking_at(stack) as table,
        ):
            (block_id,) = await accept(client, "Ada was early.")
            await asyncio.to_thread(provider.wait_for_calls, 2)
            sleeper = await _worker_at(stack, table)
            stack.children[sleeper].signal(signal.SIGSTOP)
            started = time.monotonic()
            if not by_its_lease:
                await table.execute("UPDATE memory_jobs SET locked_until = now()")
            await until_block_is(client, block_id, "ada", "active")
            measured("seconds until another took over", round(time.monotonic() - started, 1))
            before = await _all_there_is(table)
            stack.children[sleeper].signal(signal.SIGCONT)
            # With its result, or when its deadline is long over with a failure.
            await lines.wait_for(sleeper, "Job lost")
            assert await _all_there_is(table) == before
            (job,) = await table.fetch("SELECT * FROM memory_jobs")
            assert (job["status"], job["attempts"]) == ("completed", 2)
            # It continues as an ordinary worker.
            await accept(client, *(f"Ada was here {n} times." for n in range(20)))
            await until_settled(client)
            assert stack.children[sleeper].exit_code is None


async def _worker_at(stack: Stack, table: asyncpg.Connection) -> str:
    """The name of the process that runs the only job."""
    pid = await table.fetchval(
        "SELECT w.process_id FROM memory_jobs AS j JOIN memory_workers AS w ON w.id = j.locked_by"
        " WHERE j.status = 'processing'"
    )
    (name,) = (name for name, child in stack.children.items() if child.pid == pid)
    return name


async def _all_there_is(table: asyncpg.Connection) -> list[Any]:
    """Everything a late write could change."""
    return [
        await table.fetch(f"SELECT * FROM {name} ORDER BY 1, 2, 3")
        for name in ("memory_jobs", "memory_blocks", "memory_users", "memory_block_revisions")
    ]


# Deadly jobs


async def test_a_job_that_ends_its_worker_fails_alone_after_its_attempts(
    tmp_path: Path, measured: Measured
) -> None:
    deaths = 0
    over = asyncio.Event()

    async def keep_alive(stack: Stack, name: str) -> None:
        """Start the worker again whenever it has died, as a supervisor does."""
        nonlocal deaths
        environment = settings_environment(
            stack.settings, database_url=stack.database_url, stop_with_parent=True
        ) | {"PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-P", "-m", "tests.support.deadly_worker"]
        while not over.is_set():
            child = await Child.start(name, arguments, environment, lambda _name, _line: None)
            ended, stopped = (asyncio.create_task(w) for w in (child.wait(), over.wait()))
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not over.is_set():
                assert await ended == deadly_worker.EXIT_CODE, child.exit_report()
                deaths += 1
            await child.stop(grace_seconds=20)
            stopped.cancel()

    async with (
        running_stack(data_dir=tmp_path / "data", workers=0) as stack,
        client_of(stack) as client,
        looking_at(stack) as table,
    ):
        before = [f"Ada met neighbour {n} at the lighthouse." for n in range(12)]
        after = [f"Bea met neighbour {n} at the harbour." for n in range(12)]
        await accept(client, *before)
        (deadly,) = await accept(client, f"This text is {deadly_worker.MARKER}.")
        await accept(client, *after)
        supervisors = [asyncio.create_task(keep_alive(stack, f"worker-{n}")) for n in (1, 2)]
        started = time.monotonic()
        block = await until_block_is(client, deadly, "ada", "failed")
        await until_settled(client)
        measured("seconds until it had failed", round(time.monotonic() - started, 1))
        over.set()
        await asyncio.gather(*supervisors)
        assert deaths == 3
        assert "was gone while it ran attempt 3" in block["error"]
        failed = await table.fetch("SELECT * FROM memory_jobs WHERE status = 'failed'")
        assert [(row["attempts"], row["error_class"]) for row in failed] == [(3, "poison")]
        stored = await blocks_of(client, ["ada"])
        assert Counter(block["status"] for block in stored) == {"active": 24, "failed": 1}
        spent = await table.fetch(
            "SELECT max(attempts) AS most FROM memory_jobs WHERE status <> 'failed'"
        )
        measured("most attempts of a neighbour", spent[0]["most"])


# Hanging providers


@pytest.mark.parametrize(
    ("fail_fast", "timeout_ms", "end"),
    [
        # The fallback gets what is left of the time, and its first call takes some.
        (False, 10_000, ("active", "fallback")),
        pytest.param(True, 2_000, ("failed", "none"), marks=slow),
    ],
)
async def test_hanging_slots_end_at_their_deadline_and_return(
    fail_fast: bool,
    timeout_ms: int,
    end: tuple[str, str],
    tmp_path: Path,
    measured: Measured,
) -> None:
    with FakeOpenAI(dimension=1_536) as provider:
        provider.always(hang())
        async with (
            running_stack(
                data_dir=tmp_path / "data",
                openai_base_url=provider.base_url,
                worker_max_concurrent_jobs=3,
                worker_job_timeout_ms=timeout_ms,
                provider_timeout_ms=2_000,
                retry_attempts=2,
                retry_backoff_ms=100,
                fail_fast=fail_fast,
            ) as stack,
            client_of(stack) as client,
            looking_at(stack) as table,
        ):
            started = time.monotonic()
            await accept(client, *(f"Ada waits for nobody, {n}." for n in range(3)))
            await until_true(table, "count(*) = 3 FROM memory_jobs WHERE finished_at IS NOT NULL")
            measured("seconds for two attempts of 2 s", round(time.monotonic() - started, 1))
            stored = await blocks_of(client, ["ada"])
            assert {(block["status"], block["enrichment"]) for block in stored} == {end}
            jobs = await table.fetch("SELECT attempts FROM memory_jobs")
            assert [row["attempts"] for row in jobs] == [2, 2, 2]
            # All slots are back, and the provider is too.
            provider.always(None)
            # A job that fails fast is deferred at most as long as a job may wait, 2 s here: the
            # first one after that detects that the provider is back.
            await until_true(
                table, "count(*) = 0 FROM memory_circuits WHERE blocked_until > clock_timestamp()"
            )
            await accept(client, "Cleo asks first.", user_id="cleo")
            await until_true(table, "count(*) = 0 FROM memory_circuits WHERE state <> 'closed'")
            await accept(client, *(f"Bea waits too, {n}." for n in range(6)), user_id="bea")
            await until_settled(client)
            stored = await blocks_of(client, ["bea"])
            assert {(b["status"], b["enrichment"]) for b in stored} == {("active", "model")}


# Lost notifications


async def test_without_any_notification_jobs_start_within_the_poll_interval(
    stack: Stack, measured: Measured
) -> None:
    async with looking_at(stack) as table:
        waits = []
        for _ in range(10):
            # Enqueued without a notification, as if it had been lost.
            job_id = await table.fetchval(
                "SELECT enqueue_memory_jobs(ARRAY['default'], ARRAY['ada'],"
                " ARRAY['enrich_and_embed'], ARRAY[gen_random_uuid()], ARRAY[NULL::jsonb],"
                " ARRAY[0], ARRAY[NULL::timestamptz], ARRAY[NULL::text])"
            )
            started = f"started_at IS NOT NULL FROM memory_jobs WHERE id = {job_id}"
            await until_true(table, started)
            waits.append(
                await table.fetchval(
                    "SELECT extract(epoch FROM started_at - created_at)::float FROM memory_jobs"
                    " WHERE id = $1",
                    job_id,
                )
            )
        measured("longest wait in seconds", round(max(waits), 2))
        assert max(waits) < within(1.0 + 0.75)
        assert max(waits) > 0.1  # no notification was sent


async def test_a_listener_that_is_cut_again_and_again_costs_a_poll_interval(
    stack: Stack, client: httpx2.AsyncClient, measured: Measured
) -> None:
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name LIKE 'luma-memory worker%' AND query LIKE 'LISTEN%'"
    )
    cuts = 0
    async with looking_at(stack, "cut") as table, looking_at(stack) as knife:

        async def keep_cutting() -> None:
            nonlocal cuts
            while True:
                cuts += await knife.fetchval(cut)
                await asyncio.sleep(0.02)

        cutting = asyncio.create_task(keep_cutting())
        for n in range(10):
            await accept(client, f"Cut {n}.", user_id="cut")
            await until_true(table, UNSTARTED)
        await until_settled(client)
        cutting.cancel()
        rows = await table.fetch(
            "SELECT attempts, extract(epoch FROM started_at - created_at)::float AS waited"
            " FROM memory_jobs WHERE user_id = 'cut'"
        )
    measured("longest wait in seconds", round(max(row["waited"] for row in rows), 2))
    measured("times the connection was cut", cuts)
    assert cuts > 3
    assert max(row["waited"] for row in rows) < within(1.0 + 0.75)
    assert {row["attempts"] for row in rows} == {1}


# Floods


@pytest.mark.parametrize("jobs", [2_000, pytest.param(20_000, marks=slow)])
async def test_many_jobs_of_one_user_do_not_delay_anothers(
    jobs: int, stack: Stack, client: httpx2.AsyncClient, measured: Measured
) -> None:
    async with looking_at(stack, "flood") as table:
        await accept(client, *(f"Flood {n}." for n in range(jobs)), user_id="flood")
        delays = []
        for n in range(3):
            started = time.monotonic()
            (block_id,) = await accept(client, "One word, please.", user_id=f"guest-{jobs}-{n}")
            await until_block_is(client, block_id, f"guest-{jobs}-{n}", "active")
            delays.append(time.monotonic() - started)
        left = await table.fetchval("SELECT count(*) FROM memory_jobs WHERE status = 'pending'")
        measured("seconds another user waited", [round(delay, 2) for delay in delays])
        measured("jobs of the first user still waiting then", left)
        assert left > jobs / 4
        assert max(delays) < 15


async def test_a_slow_provider_does_not_turn_a_flood_into_a_delay(
    tmp_path: Path, measured: Measured
) -> None:
    """The flood's places are in the past: it drains slower than they were assigned."""
    with FakeOpenAI(dimension=1_536) as provider:
        provider.always(late(1.0))
        async with (
            running_stack(data_dir=tmp_path / "data", openai_base_url=provider.base_url) as stack,
            client_of(stack) as client,
            looking_at(stack) as table,
        ):
            await accept(client, *(f"Flood {n}." for n in range(300)), user_id="flood")
            # As ten minutes later, in which the provider did next to nothing.
            for name in ("memory_jobs", "memory_users"):
                await table.execute(f"UPDATE {name} SET fair_at = fair_at - interval '10 min'")
            started = time.monotonic()
            (block_id,) = await accept(client, "One word, please.", user_id="guest")
            await until_block_is(client, block_id, "guest", "active")
            measured("seconds another user waited", round(time.monotonic() - started, 2))
            assert time.monotonic() - started < within(15)


# A failing database


@asynccontextmanager
async def outage_free(stack: Stack, ledger: Ledger, measured: Measured) -> AsyncIterator[None]:
    """Load while the block brings the outage; then everything must be as if nothing had been."""
    pids = {name: child.pid for name, child in stack.children.items()}
    async with load(stack, ledger, senders=3, pace_seconds=0.2):
        await ledger.grow_by(20)
        yield
        healed = time.monotonic()
        await ledger.grow_by(5)
        measured("seconds until blocks were accepted again", round(time.monotonic() - healed, 1))
    async with client_of(stack) as client, looking_at(stack) as table:
        await until_settled(client)
        seconds = time.monotonic() - healed
        measured("seconds until everything was active", round(seconds, 1))
        measured("blocks accepted", len(ledger.accepted))
        await assert_promises_kept(client, ledger)
        spent = await table.fetch(
            "SELECT attempts, count(*) AS jobs FROM memory_jobs WHERE user_id = ANY ($1)"
            " GROUP BY attempts ORDER BY attempts",
            ledger.users,
        )
        again = await table.fetch(
            "SELECT id, attempts, error_class, last_error FROM memory_jobs"
            " WHERE user_id = ANY ($1) AND attempts > 1",
            ledger.users,
        )
        assert [tuple(row) for row in again] == []
        assert [tuple(row) for row in spent] == [(1, len(ledger.accepted))]
        assert seconds < within(HEAL_SECONDS_MAX)
    stack.check()
    assert {name: child.pid for name, child in stack.children.items()} == pids


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A service with two workers on a server that the tests may ill-treat; shared by them."""
    server = FaultyServer(tmp_path_factory.mktemp("faulty") / "database")
    with slow_provider() as provider:
        async with service_on(server, workers=2, openai_base_url=provider.base_url) as stack:
            yield server, stack


@contextmanager
def slow_provider() -> Iterator[FakeOpenAI]:
    """Slow enough for every outage to hit running jobs."""
    with FakeOpenAI(dimension=1_536) as provider:
        provider.always(late(0.5))
        yield provider


@pytest.mark.parametrize("restarts", [1, pytest.param(5, marks=slow)])
async def test_immediate_restarts_of_the_database_burn_nothing(
    restarts: int, served: Served, measured: Measured
) -> None:
    (server, stack), ledger = served, Ledger(f"restart-{restarts}")
    async with outage_free(stack, ledger, measured):
        for n in range(restarts):
            if n:
                await ledger.grow_by(20)
            await server.stop_hard()
            await server.start_again()


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=slow)])
async def test_a_database_that_is_away_for_a_while_burns_nothing(
    seconds: float, served: Served, measured: Measured
) -> None:
    (server, stack), ledger = served, Ledger(f"away-{seconds}")
    async with outage_free(stack, ledger, measured):
        await server.stop_hard()
        await asyncio.sleep(seconds)  # the outage itself
        await server.start_again()


# 50 s is longer than a lease: the job's 30 s and 10 more.
@pytest.mark.parametrize("seconds", [3, pytest.param(15, marks=slow), pytest.param(50, marks=slow)])
async def test_a_database_that_hangs_burns_nothing(
    seconds: float, served: Served, measured: Measured
) -> None:
    (server, stack), ledger = served, Ledger(f"hang-{seconds}")
    async with outage_free(stack, ledger, measured):
        with server.hanging():
            await asyncio.sleep(seconds)  # the outage itself


async def test_a_crash_of_one_backend_burns_nothing(served: Served, measured: Measured) -> None:
    """The server drops all connections and recovers without a restart: all locks are free."""
    (server, stack), ledger = served, Ledger("crash")
    async with outage_free(stack, ledger, measured):
        victim: asyncpg.Connection = await asyncpg.connect(stack.database_url)
        server.kill_backend(victim.get_server_pid())
        await server.start_again()
        victim.terminate()


@slow
async def test_a_full_disk_that_is_freed_again_burns_nothing(measured: Measured) -> None:
    with small_disk(size_mb=400) as disk, slow_provider() as provider:
        if disk is None:
            pytest.skip("mounting a small file system is not permitted here")
        server, ledger = FaultyServer(disk / "database"), Ledger("disk")
        async with (
            service_on(server, workers=2, openai_base_url=provider.base_url) as stack,
            outage_free(stack, ledger, measured),
        ):
            before = len(ledger.accepted)
            with filled(disk):
                await until_refused(stack)
                await asyncio.sleep(3)  # the outage itself
            measured("blocks accepted meanwhile", len(ledger.accepted) - before)
            await server.start_again()  # without disk space for the log, the server has stopped


async def until_refused(stack: Stack) -> None:
    """Wait until a block is not accepted any more; a large one shows that soon."""
    body = {"user_id": "probe", "content": "word " * 15_000}
    async with client_of(stack) as client, asyncio.timeout(RETRY_SECONDS):
        while (await client.post("/blocks", json=body)).status_code != 503:
            pass
