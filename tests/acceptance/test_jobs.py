"""Job control over HTTP and the command line, also while the service is down."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.support.partitions import connected_to
from tests.support.service import BASE_PATH, RETRY_SECONDS, until_idle

from luma_memory.cli.processes import Stack, running_stack
from luma_memory.domain.job import JOB_ID_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")
NO_DRY_RUN = {"dry_run": False, "matched": None}

FOREIGN = ("MEMORY_", "OPENAI_", "DATABASE_URL", "PG")
FAIL = (
    "UPDATE memory_jobs SET status = 'failed', attempts = 3, error_class = $2, last_error = $3,"
    " locked_by = 'worker-x', started_at = now(), finished_at = now() WHERE id = ANY ($1)"
)
FAIL_BLOCKS = (
    "UPDATE memory_blocks SET status = 'failed', error = $2"
    " WHERE id IN (SELECT block_id FROM memory_jobs WHERE id = ANY ($1))"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service without a worker: jobs stay as a test leaves them."""
    async with running_stack(
        data_dir=tmp_path_factory.mktemp("still") / "data dir", workers=0
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(still: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to the API of the service without a worker."""
    async with httpx2.AsyncClient(
        base_url=still.base_url + BASE_PATH, trust_env=False, timeout=30
    ) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def table(still: Stack) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database of the service without a worker."""
    connection: asyncpg.Connection = await asyncpg.connect(still.database_url)
    yield connection
    await connection.close()


async def accept(client: httpx2.AsyncClient, user_id: str, count: int = 1) -> list[int]:
    """Blocks of a user; the ids of their jobs."""
    blocks = [{"user_id": user_id, "content": f"note {n}"} for n in range(count)]
    response = await client.post("/blocks/batch", json={"blocks": blocks})
    return [result["job_id"] for result in response.json()["results"]]


async def fail(table: asyncpg.Connection, ids: list[int], *, error_class: str = "provider") -> None:
    """As a worker leaves jobs that have failed for good."""
    await table.execute(FAIL, ids, error_class, "the provider is away")
    await table.execute(FAIL_BLOCKS, ids, "the provider is away")


def user() -> str:
    return f"user-{uuid4()}"


async def block_status(client: httpx2.AsyncClient, user_id: str) -> set[str]:
    response = await client.get("/blocks", params={"user_id": user_id, "limit": "200"})
    return {block["status"] for block in response.json()["blocks"]}


async def command(data_dir: Path, *arguments: str | int) -> subprocess.CompletedProcess[str]:
    """Run `luma-memory jobs …` without a terminal."""
    line = [sys.executable, "-m", "luma_memory.cli", "jobs", *map(str, arguments)]
    return await asyncio.to_thread(
        subprocess.run,
        [*line, "--data-dir", str(data_dir)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        timeout=RETRY_SECONDS,
        check=False,
    )


def folder(stack: Stack) -> Path:
    assert stack.settings.data_dir is not None
    return stack.settings.data_dir


# HTTP


async def test_a_job_is_read_by_the_id_that_ingestion_returned(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    response = await api.post("/blocks", json={"user_id": user_id, "content": "A note."})
    job_id = response.json()["job_id"]
    job = (await api.get(f"/jobs/{job_id}")).json()
    assert (job["id"], job["block_id"], job["user_id"]) == (job_id, response.json()["id"], user_id)
    assert (job["status"], job["job_type"], job["attempts"]) == ("pending", "enrich_and_embed", 0)
    await fail(table, [job_id])
    dead = (await api.get(f"/jobs/{job_id}", params={"user_id": user_id})).json()
    assert (dead["error_class"], dead["last_error"]) == ("provider", "the provider is away")
    assert (dead["attempts"], dead["max_attempts"], dead["locked_by"]) == (3, 3, "worker-x")
    assert dead["finished_at"].endswith("Z")


async def test_lists_are_filtered_and_paged(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    ids = await accept(api, user_id, 5)
    await fail(table, ids[:2], error_class="schema")

    async def listed(**params: str) -> list[int]:
        response = await api.get("/jobs", params={"user_id": user_id} | params)
        assert response.status_code == 200, response.text
        return [job["id"] for job in response.json()["jobs"]]

    assert await listed() == ids[::-1]
    assert await listed(status="failed") == [ids[1], ids[0]]
    assert await listed(error_class="schema", status="pending") == []
    assert await listed(job_type="reembed") == []
    assert await listed(created_after="2020-01-01T00:00:00Z") == ids[::-1]
    assert await listed(created_before="2020-01-01T00:00:00Z") == []

    seen, cursor = list[int](), ""
    while True:
        params = {"user_id": user_id, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/jobs", params=params)).json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == ids[::-1]


async def test_stats_count_what_is_there(api: httpx2.AsyncClient) -> None:
    before = (await api.get("/jobs/stats")).json()
    await accept(api, user(), 3)
    after = (await api.get("/jobs/stats")).json()
    assert after["pending"] == before["pending"] + 3
    assert set(after) >= {"pending", "processing", "completed", "failed"}
    assert (await api.get("/health")).json()["queue_stats"]["pending"] == after["pending"]


async def test_one_job_is_retried_and_cancelled(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    (job_id,) = await accept(api, user_id)
    await fail(table, [job_id])
    assert await block_status(api, user_id) == {"failed"}
    for _ in range(2):  # a repeated request finds its work done
        retried = await api.post(f"/jobs/{job_id}/retry")
        assert retried.status_code == 200
        assert (retried.json()["status"], retried.json()["attempts"]) == ("pending", 0)
    assert await block_status(api, user_id) == {"pending_enrichment"}
    for _ in range(2):
        cancelled = await api.post(f"/jobs/{job_id}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert await block_status(api, user_id) == {"failed"}
    assert (await api.post(f"/jobs/{job_id}/retry")).json()["status"] == "pending"


async def test_a_state_that_does_not_allow_it_is_a_conflict(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    (job_id,) = await accept(api, user())
    await table.execute("UPDATE memory_jobs SET status = 'completed' WHERE id = $1", job_id)
    for action, code in (("retry", "job_not_retryable"), ("cancel", "job_not_cancellable")):
        response = await api.post(f"/jobs/{job_id}/{action}")
        assert (response.status_code, response.json()["code"]) == (409, code)
    await table.execute("UPDATE memory_jobs SET status = 'failed' WHERE id = $1", job_id)
    assert (await api.post(f"/jobs/{job_id}/cancel")).status_code == 409


async def test_a_foreign_and_a_missing_job_get_equal_responses(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    owner = user()
    (job_id,) = await accept(api, owner)
    foreign = await table.fetchval(
        "INSERT INTO memory_jobs (project_id, user_id, job_type, status)"
        " VALUES ('other', 'u', 'reembed', 'failed') RETURNING id"
    )
    problems = []
    for path, params in (
        (f"/jobs/{foreign}", {}),
        (f"/jobs/{JOB_ID_MAX}", {}),
        (f"/jobs/{job_id}", {"user_id": user()}),
    ):
        for method, suffix in (("GET", ""), ("POST", "/retry"), ("POST", "/cancel")):
            response = await api.request(method, path + suffix, params=params)
            assert response.status_code == 404
            assert response.json().pop("request_id")
            problems.append({**response.json(), "request_id": ""})
    assert problems == [problems[0]] * 9
    assert problems[0]["code"] == "job_not_found"
    assert foreign not in [job["id"] for job in (await api.get("/jobs")).json()["jobs"]]
    bulk = await api.post("/jobs/retry", json={"ids": [foreign]})
    assert bulk.json() == {"retried": 0, "ids": [], "more": False, **NO_DRY_RUN}
    status = await table.fetchval("SELECT status FROM memory_jobs WHERE id = $1", foreign)
    assert status == "failed"


async def test_bulk_retry_takes_what_its_filters_leave(
    api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    ids = await accept(api, user_id, 6)
    await fail(table, ids[:4])
    await fail(table, ids[4:5], error_class="schema")

    async def retried(**body: Any) -> list[int]:
        response = await api.post("/jobs/retry", json=body)
        assert response.status_code == 200, response.text
        assert response.json()["retried"] == len(response.json()["ids"])
        found: list[int] = response.json()["ids"]
        return found

    assert await retried(user_id=user_id, error_class="timeout") == []
    assert await retried(user_id=user_id, job_type="reembed") == []
    assert await retried(user_id=user_id, failed_before="2020-01-01T00:00:00Z") == []
    assert await retried(ids=[ids[1], ids[5]]) == [ids[1]]
    first = await api.post(
        "/jobs/retry", json={"user_id": user_id, "error_class": "provider", "limit": 2}
    )
    assert first.json() == {"retried": 2, "ids": [ids[0], ids[2]], "more": True, **NO_DRY_RUN}
    assert await retried(user_id=user_id, failed_after="2020-01-01T00:00:00Z") == ids[3:5]
    await fail(table, ids)
    assert set(ids) <= set(await retried(all=True))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/jobs/abc", None, 422, "invalid_request"),
        ("GET", "/jobs/0", None, 422, "invalid_request"),
        ("GET", "/jobs/-1", None, 422, "invalid_request"),
        ("GET", "/jobs/1.5", None, 422, "invalid_request"),
        ("GET", f"/jobs/{JOB_ID_MAX + 1}", None, 422, "invalid_request"),
        ("GET", "/jobs/" + "9" * 5_000, None, 422, "invalid_request"),
        ("POST", f"/jobs/{JOB_ID_MAX + 1}/retry", None, 422, "invalid_request"),
        ("POST", "/jobs/x/cancel", None, 422, "invalid_request"),
        ("GET", "/jobs?status=done", None, 422, "invalid_request"),
        ("GET", "/jobs?limit=0", None, 422, "invalid_request"),
        ("GET", "/jobs?limit=201", None, 422, "invalid_request"),
        ("GET", "/jobs?cursor=%F0%9F%98%80", None, 422, "bad_cursor"),
        ("GET", "/jobs?cursor=AAAA", None, 422, "bad_cursor"),
        ("GET", "/jobs?cursor=__________8", None, 422, "bad_cursor"),
        ("GET", "/jobs?user_id=%00", None, 422, "invalid_request"),
        ("GET", "/jobs?created_after=yesterday", None, 422, "invalid_request"),
        ("POST", "/jobs/retry", {}, 422, "filter_missing"),
        ("POST", "/jobs/retry", {"all": False, "limit": 5}, 422, "filter_missing"),
        ("POST", "/jobs/retry", {"ids": [0]}, 422, "invalid_request"),
        ("POST", "/jobs/retry", {"ids": [2**63]}, 422, "invalid_request"),
        ("POST", "/jobs/retry", {"ids": [1] * 1_001}, 422, "invalid_request"),
        ("POST", "/jobs/retry", {"all": True, "limit": 1_001}, 422, "invalid_request"),
        ("POST", "/jobs/retry", {"everything": True}, 422, "invalid_request"),
        ("POST", "/jobs/stats", {}, 405, "method_not_allowed"),
        ("DELETE", "/jobs/1", None, 405, "method_not_allowed"),
    ],
)
async def test_bad_requests_are_refused_with_a_code(
    method: str, path: str, body: object, status: int, code: str, api: httpx2.AsyncClient
) -> None:
    response = await api.request(method, path, json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


async def test_retried_jobs_are_done_by_the_worker_and_forget_their_errors(
    client: httpx2.AsyncClient, stack: Stack
) -> None:
    user_id = user()
    ids = await accept(client, user_id, 20)
    await until_idle(client)
    connection = await connected_to(stack.database_url, user_id)
    try:
        await fail(connection, ids)
    finally:
        await connection.close()
    assert await block_status(client, user_id) == {"failed"}
    retried = await client.post("/jobs/retry", json={"user_id": user_id})
    assert retried.json()["ids"] == ids
    await until_idle(client)
    assert await block_status(client, user_id) == {"active"}
    assert {
        (job["status"], job["error_class"], job["attempts"])
        for job in (await client.get("/jobs", params={"user_id": user_id})).json()["jobs"]
    } == {("completed", None, 1)}


# The command line


async def test_the_commands_return_the_same_as_the_routes(
    still: Stack, api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    ids = await accept(api, user_id, 3)
    await fail(table, ids[:1])
    data_dir = folder(still)

    stats, shown, listed, page = await asyncio.gather(
        command(data_dir, "stats", "--json"),
        command(data_dir, "show", ids[0], "--json"),
        command(data_dir, "list", "--user", user_id, "--json"),
        command(data_dir, "list", "--user", user_id, "--limit", "2"),
    )
    from_command, from_api = json.loads(stats.stdout), (await api.get("/jobs/stats")).json()
    for numbers in (from_command, from_api):
        assert numbers.pop("oldest_pending_seconds") > 0
    assert from_command == from_api
    assert json.loads(shown.stdout) == (await api.get(f"/jobs/{ids[0]}")).json()
    listed_by_api = (await api.get("/jobs", params={"user_id": user_id})).json()
    assert json.loads(listed.stdout) == {"jobs": listed_by_api["jobs"], "next_below": None}
    assert re.search(rf"{ids[2]}\s+pending\s+enrich_and_embed\s+", page.stdout)
    assert str(ids[0]) not in page.stdout.split()
    assert f"more: --below {ids[1]}" in page.stderr

    table_shown = await command(data_dir, "show", ids[0])
    for fact in ("failed", "3 of 3", "worker-x", "provider", "the provider is away", user_id):
        assert fact in table_shown.stdout
    assert "\x1b" not in table_shown.stdout


async def test_retry_and_cancel_by_id_and_by_filter(
    still: Stack, api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    user_id = user()
    ids = await accept(api, user_id, 4)
    await fail(table, ids)
    data_dir = folder(still)

    one = await command(data_dir, "retry", ids[0])
    assert (one.returncode, one.stdout) == (0, "retried 1 job\n"), one.stderr
    unasked = await command(data_dir, "retry", "--user", user_id)
    assert unasked.returncode == 1
    assert "3 jobs would change; without a terminal to confirm, add --yes" in unasked.stderr
    several = await command(data_dir, "retry", "--user", user_id, "--yes", "--json")
    assert json.loads(several.stdout) == {"retried": 3, "ids": ids[1:]}
    assert "retried: 3 of 3" in several.stderr
    assert await block_status(api, user_id) == {"pending_enrichment"}

    named = await command(data_dir, "cancel", ids[0], JOB_ID_MAX, "--yes")
    assert named.returncode == 1
    assert named.stdout == "cancelled 1 job\n"
    assert f"Not cancelled: {JOB_ID_MAX};" in named.stderr
    rest = await command(data_dir, "cancel", "--user", user_id, "--yes", "--json")
    assert json.loads(rest.stdout) == {"cancelled": 3, "ids": ids[1:]}
    assert await block_status(api, user_id) == {"failed"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["retry"], 2, "select jobs by id"),
        (["cancel"], 2, "select jobs by id"),
        (["show", "abc"], 2, "integer"),
        (["show", str(2**63)], 2, "9223372036854775807"),
        (["show", str(JOB_ID_MAX)], 1, "luma-memory: There is no such job"),
        (["list", "--status", "done"], 2, "done"),
        (["list", "--since", "yesterday"], 2, "neither a time such as"),
        (["clear"], 1, "add --yes"),
    ],
)
async def test_wrong_usage_is_reported(
    arguments: list[str], code: int, message: str, still: Stack, api: httpx2.AsyncClient
) -> None:
    await accept(api, user())
    done = await command(folder(still), *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_operator_must_confirm_and_may_decline(
    still: Stack, api: httpx2.AsyncClient
) -> None:
    user_id = user()
    (job_id,) = await accept(api, user_id)
    for response, code, status in (("n", 1, "pending"), ("y", 0, "cancelled")):
        ended, screen = await asyncio.to_thread(
            _at_a_terminal, folder(still), ["cancel", str(job_id)], response
        )
        assert "Cancel 1 job? [y/N]" in screen
        assert ended == code
        assert (await api.get(f"/jobs/{job_id}")).json()["status"] == status


def _at_a_terminal(data_dir: Path, arguments: list[str], response: str) -> tuple[int, str]:
    """Run a `jobs` command in a terminal and answer its question; exit code and screen."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "luma_memory.cli", "jobs", *arguments]
    process = subprocess.Popen(
        [*line, "--data-dir", str(data_dir)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = b""
    try:
        while b"[y/N]" not in screen:
            screen += os.read(ours, 4096)
        os.write(ours, f"{response}\n".encode())
        try:
            while part := os.read(ours, 4096):
                screen += part
        except OSError:
            pass  # the terminal's other end is closed
        return process.wait(RETRY_SECONDS), screen.decode(errors="replace")
    finally:
        os.close(ours)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


async def test_cleared_jobs_are_enqueued_again_while_the_service_is_down_and_then_done(
    tmp_path: Path,
) -> None:
    """The runbook's steps: accept, lose the queue, repair it without the API, start workers."""
    data_dir, user_id = tmp_path / "data dir", user()
    nowhere = await command(data_dir, "stats")
    assert nowhere.returncode == 1
    assert "There is no database in" in nowhere.stderr
    assert not data_dir.exists()

    async with running_stack(data_dir=data_dir, workers=0) as stack, _client(stack) as client:
        await accept(client, user_id, 600)
        await accept(client, user(), 600)

    cleared = await command(data_dir, "clear", "--yes")
    assert cleared.stdout == "deleted 1,200 jobs\n", cleared.stderr
    assert "`luma-memory jobs enqueue`" in cleared.stderr
    enqueued = await command(data_dir, "enqueue", "--json")
    assert json.loads(enqueued.stdout)["enqueued"] == 1_200
    assert "enqueued: 1,200 of 1,200" in enqueued.stderr
    again = await command(data_dir, "enqueue")
    assert (again.returncode, again.stdout) == (0, "enqueued 0 jobs\n")

    async with running_stack(data_dir=data_dir) as stack, _client(stack) as client:
        stats = await until_idle(client)
        assert (stats["completed"], stats["failed"]) == (1_200, 0)
        assert await block_status(client, user_id) == {"active"}


def _client(stack: Stack) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30)


async def test_the_queue_is_paused_and_resumed_by_api_and_command(
    still: Stack, api: httpx2.AsyncClient
) -> None:
    paused = await api.post("/jobs/pause", json={"job_type": "weekly_summary"})
    assert (paused.status_code, paused.json()) == (200, {"paused": ["weekly_summary"]})
    assert (await api.get("/jobs/stats")).json()["paused"] == ["weekly_summary"]
    both = await command(folder(still), "pause")
    assert "the whole queue" in both.stdout
    health = (await api.get("/health")).json()
    assert health["paused"] == ["all", "weekly_summary"]
    one = await command(folder(still), "resume", "--type", "weekly_summary", "--json")
    assert json.loads(one.stdout) == {"paused": ["all"]}
    assert "paused: the whole queue" in (await command(folder(still), "stats")).stdout
    assert (await api.post("/jobs/resume", json={})).json() == {"paused": []}
    wrong = await api.post("/jobs/pause", json={"job_type": "everything"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


async def test_a_jobs_failed_attempts_are_listed(
    still: Stack, api: httpx2.AsyncClient, table: asyncpg.Connection
) -> None:
    (job_id,) = await accept(api, user())
    await table.execute(
        "UPDATE memory_jobs SET status = 'processing', locked_by = 'worker-x', attempts = 1"
        " WHERE id = $1",
        job_id,
    )
    await table.execute(
        "SELECT fail_memory_jobs(ARRAY[$1::bigint], '{1}', 'worker-x', '{provider}', '{away}',"
        " '{0}', '{false}')",
        job_id,
    )
    (error,) = (await api.get(f"/jobs/{job_id}")).json()["attempt_errors"]
    assert (error["attempt"], error["worker"], error["error_class"], error["message"]) == (
        *(1, "worker-x", "provider", "away"),
    )
    shown = await command(folder(still), "show", str(job_id))
    assert "worker-x: provider: away" in shown.stdout
