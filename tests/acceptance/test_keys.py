"""API keys: command line, HTTP, several processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.support.commands import COMMAND, clean_environment
from tests.support.keyed_service import KeyedService, beside, running_keyed_service
from tests.support.machine_load import within
from tests.support.servers import Servers
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import Stack
from luma_memory.client import AsyncMemoryClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as api:
        yield api


def command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": stack.database_url}
    return subprocess.run(
        [sys.executable, "-m", "luma_memory.cli", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


async def test_a_key_is_made_used_listed_and_revoked(api: KeyedService) -> None:
    made = command(
        api.stack,
        *("keys", "create", "--permission", "ingest", "--permission", "read", "--name", "chat"),
    )
    assert made.returncode == 0, made.stderr
    assert "--scope" not in made.stderr
    text = made.stdout.strip()
    assert text.startswith("lmk_")
    async with api.client(text) as client:
        response = await client.post("/blocks", json={"user_id": "ada", "content": "Tea at four."})
        assert response.status_code == 202
        assert (await client.get("/blocks", params={"user_id": "ada"})).status_code == 200
        refused = await client.post("/jobs/retry", json={"all": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    listed = command(api.stack, "keys", "list", "--json")
    assert text not in listed.stdout
    (entry,) = [key for key in json.loads(listed.stdout) if key["name"] == "chat"]
    assert text.startswith(entry["prefix"])
    assert entry["permissions"] == entry["scopes"] == ["ingest", "read"]
    assert command(api.stack, "keys", "revoke", entry["prefix"]).returncode == 0
    listed = command(api.stack, "keys", "list")
    (line,) = [line for line in listed.stdout.splitlines() if entry["prefix"] in line]
    assert "chat" in line
    assert line.rstrip()[-1] == "Z", "the last column says when it was revoked"


async def test_the_old_flag_for_permissions_still_works_and_names_the_new_one(
    api: KeyedService,
) -> None:
    flags = ("--scope", "ingest", "--permission", "read")
    made = command(api.stack, "keys", "create", *flags, "--json")
    assert made.returncode == 0, made.stderr
    assert "--permission" in made.stderr
    key = json.loads(made.stdout)
    assert key["permissions"] == key["scopes"] == ["ingest", "read"]
    async with api.client(key["key"]) as client:
        assert (await client.get("/blocks", params={"user_id": "ada"})).status_code == 200
    assert "--scope" not in command(api.stack, "keys", "create", "--help").stdout


@pytest.mark.parametrize("flags", [(), ("--permission", "write"), ("--scope", "write")])
async def test_a_key_needs_permissions_that_exist(
    api: KeyedService, flags: tuple[str, ...]
) -> None:
    refused = command(api.stack, "keys", "create", *flags)
    assert refused.returncode == 2
    assert "--permission" in refused.stderr
    assert "admin" in refused.stderr
    assert refused.stdout == ""


async def test_both_headers_carry_a_key_and_two_different_ones_are_refused(
    api: KeyedService,
) -> None:
    text = await api.key("read")
    async with api.client(None) as client:

        async def status(**headers: str) -> tuple[int, str | None]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            response = await client.get("/blocks", params={"user_id": "ada"}, headers=named)
            return response.status_code, response.json().get("code")

        assert await status(Authorization=f"Bearer {text}") == (200, None)
        assert await status(Authorization=f"bearer  {text}") == (200, None)
        assert await status(X_API_Key=text) == (200, None)
        assert await status(X_API_Key=text, Authorization=f"Bearer {text}") == (200, None)
        assert await status(X_API_Key="other", Authorization=f"Bearer {text}") == (
            401,
            "credentials_ambiguous",
        )
        assert await status() == (401, "credentials_missing")
        for wrong in ("Basic YWRhOnBhc3M=", "Bearer", text):
            assert await status(Authorization=wrong) == (401, "credentials_invalid"), wrong


async def test_the_project_comes_from_the_key(api: KeyedService) -> None:
    shop = await api.key("ingest", "read", project_id="shop")
    forum = await api.key("ingest", "read", project_id="forum")
    body = {"user_id": "ada", "content": "The shop's own secret word is quincunx."}
    async with api.client(shop) as client:
        block_id = (await client.post("/blocks", json=body)).json()["id"]
    async with api.client(forum) as client:
        foreign = await client.get(f"/blocks/{block_id}", params={"user_id": "ada"})
        assert foreign.status_code == 404
        question = {"user_id": "ada", "query": "quincunx"}
        assert (await client.post("/search", json=question)).json()["results"] == []
        jobs = (await client.get("/jobs")).json()["jobs"]
        assert {job["project_id"] for job in jobs} <= {"forum"}


async def test_the_response_without_credentials_names_the_scheme(api: KeyedService) -> None:
    async with api.client(None) as client:
        response = await client.get("/nowhere")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("key", [None, "lmk_abcdefghijkl_wrong"])
async def test_a_command_without_a_valid_key_names_the_variable(
    key: str | None, api: KeyedService
) -> None:
    environment = clean_environment(**({"MEMORY_API_KEY": key} if key else {}))
    for arguments in (["search", "river"], ["context", "river"], ["summarize"]):
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *arguments, "--user", "ada", "--url", api.stack.base_url),
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"MEMORY_API_KEY" in errors, arguments


async def test_health_needs_no_key(api: KeyedService) -> None:
    async with api.client(None) as client:
        for path in ("/health", "/health/live", "/health/ready", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


async def test_the_body_of_a_stranger_is_not_read(api: KeyedService) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2_000):
            sent += 1
            yield b"x" * 100_000

    async with api.client(None) as client:
        try:
            response = await client.post("/blocks", content=endless())
            assert response.status_code == 401
        except httpx2.TransportError:
            pass  # answered and closed while we were still sending
    assert sent < 1_000, "the server took in 100 MB for nobody"


async def test_guessing_returns_429(api: KeyedService) -> None:
    async with api.client("lmk_aaaaaaaaaaaa_" + "b" * 43) as client:
        # As through a proxy on this machine, so that other tests are not held up.
        headers = {"X-Forwarded-For": "198.51.100.7"}
        codes = [(await client.get("/blocks", headers=headers)).status_code for _ in range(25)]
        limited = await client.get("/blocks", headers=headers)
    assert set(codes[:20]) == {401}
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) >= 1
    assert limited.json()["code"] == "too_many_attempts"


async def test_only_a_key_over_its_rate_limit_is_limited(api: KeyedService) -> None:
    keys = [await api.key("read"), await api.key("read", user_id="ada"), await api.key("read")]
    async with beside(api.stack, requests_per_minute=60) as counted, AsyncExitStack() as stack:
        one, bound, other = [
            await stack.enter_async_context(KeyedService(counted).client(k)) for k in keys
        ]
        spent = 0
        while (response := await one.get("/jobs")).status_code == 200:
            spent += 1
        assert 60 <= spent <= 75, "a minute's worth, and what came in while it was spent"
        assert (response.status_code, response.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(response.headers["Retry-After"]) <= 2
        assert response.headers["content-type"] == "application/problem+json"
        for client in (bound, other):
            assert (await client.get("/jobs")).status_code == 200
        # The SDK waits as long as Retry-After states, and its caller notices nothing.
        async with AsyncMemoryClient(counted.base_url, api_key=keys[0]) as memory:
            for _ in range(2):
                await memory.list_jobs()


@pytest.mark.slow
async def test_a_revoked_key_is_refused_within_a_minute(api: KeyedService) -> None:
    text = await api.key("read")
    async with api.client(text) as client:
        assert (await client.get("/jobs")).status_code == 200
        await api.revoke(text)
        revoked_at = time.monotonic()
        async with asyncio.timeout(60):
            while (await client.get("/jobs")).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
    assert time.monotonic() - revoked_at < within(60)


async def test_a_service_without_keys_closes_with_the_first_one(servers: Servers) -> None:
    async with (
        running_keyed_service(servers, first_key=False) as api,
        api.client(None) as client,
    ):
        assert (await client.get("/jobs")).status_code == 200
        rebinding = await client.get("/jobs", headers={"Host": "evil.example:8080"})
        assert (rebinding.status_code, rebinding.json()["code"]) == (403, "host_not_allowed")
        page = await client.post("/jobs/retry", headers={"Origin": "https://evil.example"})
        assert (page.status_code, page.json()["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in page.headers
        own = {"Origin": str(client.base_url.copy_with(raw_path=b"/")).rstrip("/")}
        assert (await client.get("/jobs", headers=own)).status_code == 200
        other_port = await client.get("/jobs", headers={"Origin": "http://127.0.0.1:1"})
        assert (other_port.status_code, other_port.json()["code"]) == (403, "origin_not_allowed")
        await api.key("read")
        async with asyncio.timeout(60):
            while (await client.get("/jobs")).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, False),
        ({"MEMORY_ADMIN_KEY": "a-first-key-for-a-container"}, True),
    ],
)
async def test_on_other_addresses_it_starts_with_keys_only(
    tmp_path: Path, settings: dict[str, str], starts: bool
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")},
        **settings,
        "MEMORY_DATA_DIR": str(tmp_path / "data"),
        "MEMORY_HOST": "0.0.0.0",
        "MEMORY_PORT": "0",
        "MEMORY_EMBEDDING_ENABLED": "false",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "luma_memory.api"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    output: list[str] = []
    async with asyncio.timeout(60):
        async for line in process.stderr:
            output.append(line.decode())
            if "Listening" in output[-1]:
                break
    if starts:
        process.terminate()
        await process.communicate()
        assert "Listening" in output[-1]
        return
    assert await process.wait() == 1
    assert any("keys create" in line for line in output), output


async def test_the_admin_key_and_the_commands_key(servers: Servers) -> None:
    admin = "a-first-key-for-a-container"
    async with running_keyed_service(servers, first_key=False, admin_key=admin) as api:
        async with api.client(admin) as client:
            assert (await client.post("/jobs/retry", json={"all": True})).status_code == 200
        async with api.client(None) as client:
            assert (await client.get("/jobs")).status_code == 401
        arguments = [*("search", "tea", "--user", "ada", "--url", api.stack.base_url), "--json"]
        refused = command(api.stack, *arguments)
        assert refused.returncode == 1
        assert "Send credentials" in refused.stderr
        os.environ["MEMORY_API_KEY"] = admin
        try:
            accepted: Any = command(api.stack, *arguments)
        finally:
            del os.environ["MEMORY_API_KEY"]
        assert accepted.returncode == 0, accepted.stderr
        assert BASE_PATH not in accepted.stderr
