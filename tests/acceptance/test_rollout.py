"""`rollout check`: the real processes with each phase's settings pass, each broken thing fails.

Settings and command are those of docs/rollout.md. The short form is one service with the settings
of the last phase, which hold those of all, that passes and is then broken; the others run with
`make faults`.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from tests.fakes.openai_server import FakeOpenAI, out_of_money
from tests.support.commands import COMMAND, clean_environment, run
from tests.support.load import client_of
from tests.support.redis_server import RedisServer, free_port
from tests.support.servers import Servers
from tests.support.stacks import running_service
from tests.support.tcp_proxy import proxied

from luma_memory.cli.processes import Stack
from luma_memory.cli.rollout_criteria import Criterion, Limits
from luma_memory.cli.rollout_probe import check_phase
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import Settings, load_settings, variable_name

slow = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text(encoding="utf-8")
PHASES = (1, 2, 3, 4)
CRITERIA = [
    *("service", "workers", "asynchronous ingest", "accept latency", "enrichment", "failure rate"),
    *("cache", "retrieval on hits", "hit rate", "relations", "rate limit"),
    *("pending jobs", "jobs in time"),
]
# Tests share their machine: whether a limit holds is not asked where it is not the subject.
LENIENT = Limits(accept_ms=5_000, hit_ms=5_000, judge_hit_rate=False, enriched_seconds=60)
HASTY = Limits(accept_ms=5_000, hit_ms=5_000, judge_hit_rate=False, enriched_seconds=1)


def settings_of(phase: int, redis_url: str) -> dict[str, Any]:
    """Fields of Settings, as the page has them for this phase and those before it."""
    fields = {variable_name(name): name for name in Settings.model_fields}
    values: dict[str, str] = {}
    for number in PHASES[:phase]:
        (block,) = re.findall(
            rf"^## Phase {number}: .*?^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
        )
        values |= dict(line.split("=", 1) for line in block.splitlines())
    assert values
    if "REDIS_URL" in values:
        assert values["REDIS_URL"] == "redis://…"
        values["REDIS_URL"] = redis_url
    given = {fields[variable]: value for variable, value in values.items()}
    checked = load_settings(**given)
    return {name: getattr(checked, name) for name in given}


async def command(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the report of the page's own command."""
    (line,) = re.findall(r"^\$ luma-memory (rollout check .*)$", PAGE, re.MULTILINE)
    command_line = line.replace("https://memory.example.com", stack.base_url)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *(*shlex.split(command_line), "--json", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(output)


async def check(stack: Stack, phase: int, limits: Limits = LENIENT) -> Mapping[str, Criterion]:
    found = await check_phase(phase, stack.base_url, None, limits)
    return {criterion.name: criterion for criterion in found}


def failing(criteria: Mapping[str, Criterion]) -> list[str]:
    return [name for name, criterion in criteria.items() if criterion.verdict == "fail"]


async def ask(stack: Stack, questions: Sequence[str]) -> None:
    async with client_of(stack) as client:
        for question in questions:
            body = {"user_id": "ada", "query": question, "synthesize": False}
            (await client.post("/context", json=body)).raise_for_status()


async def test_the_last_phase_passes_and_a_worker_that_is_gone_fails(
    redis_server: RedisServer, servers: Servers
) -> None:
    settings = settings_of(4, redis_server.url)
    async with running_service(servers, **settings) as stack:
        # Two questions again and again are what a cache is for.
        await ask(stack, ["Where is Ada?", "Who is Ada?"] * 30)
        code, report = await command(stack, "--phase", "4", "--accept-ms", "5000")
        assert (code, report["phase"], report["passed"]) == (0, 4, True), report
        assert [entry["name"] for entry in report["criteria"]] == CRITERIA
        assert {entry["verdict"] for entry in report["criteria"]} == {"pass"}
        # The probe leaves no data, and its questions are charged to no user.
        async with client_of(stack) as client:
            jobs = (await client.get("/jobs")).json()["jobs"]
            cache = (await client.get("/cache/stats")).json()
        assert jobs == []
        assert (cache["hits"], cache["misses"]) == (58, 2)

        await stack.children["worker"].stop(grace_seconds=20)
        found = await check(stack, 1, HASTY)
        assert failing(found) == ["workers", "enrichment"]


@slow
@pytest.mark.parametrize("phase", PHASES)
async def test_the_settings_of_each_phase_pass_it_and_not_the_next(
    phase: int, redis_server: RedisServer, servers: Servers
) -> None:
    settings = settings_of(phase, redis_server.url)
    async with running_service(servers, **settings) as stack:
        await ask(stack, ["Where is Ada?", "Who is Ada?"] * 30)
        code, report = await command(stack, "--phase", str(phase), "--accept-ms", "5000")
        assert (code, report["passed"]) == (0, True), report
        assert {entry["verdict"] for entry in report["criteria"]} == {"pass"}
        fails = failing(await check(stack, min(phase + 1, 4)))
        assert fails == {1: ["cache"], 2: ["relations", "rate limit"]}.get(phase, [])


@slow
async def test_a_running_service_is_rolled_out_phase_by_phase(
    redis_server: RedisServer, servers: Servers
) -> None:
    first = settings_of(1, redis_server.url)
    async with running_service(servers, **first) as stack:
        for phase in PHASES:
            later = settings_of(phase, redis_server.url)
            stack.settings = stack.settings.model_copy(update=later)
            await asyncio.gather(*(stack.restart(name) for name in list(stack.children)))
            await stack.ready()
            assert failing(await check(stack, phase)) == []


@slow
async def test_before_a_day_is_over_the_hit_rate_is_shown_and_not_judged(
    redis_server: RedisServer, servers: Servers
) -> None:
    settings = settings_of(2, redis_server.url)
    async with running_service(servers, **settings) as stack:
        for arguments, verdict, code in ((["--early"], "not judged", 0), ([], "fail", 1)):
            ended, report = await command(stack, "--phase", "2", "--accept-ms", "5000", *arguments)
            verdicts = {entry["name"]: entry["verdict"] for entry in report["criteria"]}
            assert (ended, verdicts["hit rate"]) == (code, verdict)


@slow
async def test_relations_without_a_limit_fail(redis_server: RedisServer, servers: Servers) -> None:
    async with running_service(
        servers,
        redis_url=redis_server.url,
        relations_enabled=True,
        relation_detection_rate_limit=1_000,
    ) as stack:
        assert failing(await check(stack, 3)) == ["rate limit"]


@slow
async def test_a_key_that_may_not_erase_stores_nothing(servers: Servers) -> None:
    admin_key = "a-key-of-the-test-0123456789"
    async with (
        running_service(servers, admin_key=admin_key) as stack,
        client_of(stack) as client,
    ):
        made = await asyncio.to_thread(
            lambda: run(
                *("keys", "create", "--permission", "ingest", "--permission", "read"),
                DATABASE_URL=stack.database_url,
            )
        )
        (key,) = re.findall(r"lmk_\S+", made.stdout)
        with pytest.raises(LumaMemoryError, match="admin"):
            await check_phase(1, stack.base_url, SecretStr(key), LENIENT)
        client.headers["Authorization"] = f"Bearer {admin_key}"
        assert (await client.get("/jobs/stats")).json()["completed"] == 0


@slow
async def test_writes_that_are_not_asynchronous_fail(servers: Servers) -> None:
    async with running_service(servers, worker_enabled=False) as stack:
        assert failing(await check(stack, 1)) == ["workers", "asynchronous ingest"]


@slow
async def test_a_service_that_is_switched_off_fails(servers: Servers) -> None:
    async with running_service(servers, system_enabled=False) as stack:
        assert failing(await check(stack, 1)) == ["service"]


@slow
async def test_a_slow_way_fails_the_latencies(redis_server: RedisServer, servers: Servers) -> None:
    async with (
        running_service(servers, redis_url=redis_server.url) as stack,
        proxied(stack.port) as proxy,
    ):
        proxy.delay = lambda: 0.6
        url = f"http://127.0.0.1:{proxy.port}"
        limits = Limits(judge_hit_rate=False, enriched_seconds=60)
        found = await check_phase(2, url, None, limits)
        failed = [criterion.name for criterion in found if criterion.verdict == "fail"]
        assert failed == ["accept latency", "retrieval on hits"]


@slow
@pytest.mark.parametrize(
    ("fail_fast", "failed"),
    [(True, ["enrichment", "failure rate"]), (False, ["enrichment"])],
)
async def test_a_provider_that_is_of_no_use_fails(
    fail_fast: bool, failed: list[str], servers: Servers
) -> None:
    with FakeOpenAI(dimension=1_536) as provider:
        provider.always(out_of_money())
        async with running_service(
            servers, openai_base_url=provider.base_url, fail_fast=fail_fast
        ) as stack:
            assert failing(await check(stack, 1)) == failed


@slow
async def test_the_first_phase_passes_without_redis_and_the_second_does_not(
    servers: Servers,
) -> None:
    async with running_service(servers) as stack:
        assert failing(await check(stack, 1)) == []
        assert failing(await check(stack, 2)) == ["cache"]


@slow
async def test_a_redis_that_is_away_fails_the_cache(servers: Servers) -> None:
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    async with running_service(servers, redis_url=redis_url) as stack:
        assert "cache" in failing(await check(stack, 2))


@slow
async def test_questions_that_never_come_again_fail_the_hit_rate(
    redis_server: RedisServer, servers: Servers
) -> None:
    async with running_service(servers, redis_url=redis_server.url) as stack:
        await ask(stack, [f"Where was Ada on day {n}?" for n in range(60)])
        judged = Limits(accept_ms=5_000, hit_ms=5_000, enriched_seconds=60)
        assert failing(await check(stack, 2, judged)) == ["hit rate"]


@slow
async def test_a_worker_that_stands_still_fails_production(servers: Servers) -> None:
    async with running_service(servers) as stack, client_of(stack) as client:
        stack.children["worker"].signal(signal.SIGSTOP)
        blocks = [{"user_id": "ada", "content": f"Ada was here {n} times."} for n in range(60)]
        (await client.post("/blocks/batch", json={"blocks": blocks})).raise_for_status()
        found = failing(await check(stack, 4, HASTY))
        assert {"enrichment", "pending jobs"} <= set(found)
        connection = await asyncpg.connect(stack.database_url)
        # They have waited for a minute.
        await connection.execute(
            "UPDATE memory_jobs SET created_at = created_at - interval '1 minute',"
            " run_at = run_at - interval '1 minute'"
        )
        await connection.close()
        assert "jobs in time" in failing(await check(stack, 4, HASTY))
        stack.children["worker"].signal(signal.SIGCONT)


@slow
async def test_an_unreachable_service_is_reported_in_one_sentence(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("rollout", "check", "--phase", "1", "--url", f"http://127.0.0.1:{free_port()}"),
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    _, output = await process.communicate()
    assert process.returncode == 1
    assert b"No service is listening at" in output
