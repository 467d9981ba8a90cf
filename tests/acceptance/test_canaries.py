"""No secret in any output, whatever is set, whatever fails, at debug level.

Every setting that can hold a secret holds a canary of its own, also where people put secrets that
do not belong there. Every dependency fails in several ways. Nothing that comes out may sing.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from tests.support.server_faults import FaultyServer
from tests.support.service import BASE_PATH
from tests.support.tcp_proxy import hanging_server

from luma_memory.cli.processes import Stack
from luma_memory.domain.errors import SetupError
from luma_memory.settings import Settings, load_settings, variable_name

SONG = "c4n4ry"
COMMANDS = (
    ("doctor", "--online"),
    ("serve", "--port", "0"),
    ("worker",),
    ("settings",),
)
OTHERS = (
    ("up", "--port", "0"),
    ("migrate",),
    ("keys", "list"),
    ("jobs", "stats"),
    ("usage",),
    ("search", "--user", "ada", "--url", "http://127.0.0.1:1", "Where is it?"),
)


def canary(name: str) -> str:
    """Long enough for a key, with a sign that has to be escaped in a URL."""
    return f"{SONG}-{name}-0123456789/abcdef"


def secrets(port: int) -> dict[str, str]:
    """Every variable that can hold a secret; all addresses lead to that port."""

    def url(scheme: str, name: str, path: str) -> str:
        password = quote(canary(name), safe="")
        return f"{scheme}://user:{password}@127.0.0.1:{port}{path}"

    return {
        "DATABASE_URL": url("postgresql", "database", "/memory"),
        "REDIS_URL": url("redis", "redis", "/0"),
        "OPENAI_API_KEY": canary("openai"),
        "OPENAI_BASE_URL": url("http", "openai-url", f"/v1?api-key={quote(canary('query'))}"),
        "SUPABASE_URL": url("http", "supabase-url", ""),
        "SUPABASE_SERVICE_ROLE_KEY": canary("service-role"),
        "MEMORY_ADMIN_KEY": canary("admin"),
        "MEMORY_API_KEY": canary("api"),
        "MEMORY_DATABASE_WAIT_SECONDS": "0",
        # Not ours, and read by libraries.
        "PGPASSWORD": canary("pgpassword"),
        "LANGFUSE_SECRET_KEY": canary("langfuse"),
        "LANGFUSE_PUBLIC_KEY": canary("langfuse-public"),
        "LANGFUSE_HOST": url("http", "langfuse-url", ""),
        "ANTHROPIC_API_KEY": canary("anthropic"),
        "HTTP_PROXY": url("http", "proxy", ""),
        "MEMORY_LOG_LEVEL": "debug",
        "MEMORY_RETRY_BACKOFF_MS": "1",
        "MEMORY_RETRY_ATTEMPTS": "2",
    }


def leaks(text: str) -> list[str]:
    """Lines in which a secret can be read, also one that was escaped or encoded."""
    plain = base64.b64encode(b"user:" + SONG.encode()).decode()[:12]
    return [line for line in text.splitlines() if SONG in line or plain in line]


async def outputs_of(environment: Mapping[str, str], commands: Iterator[tuple[str, ...]]) -> str:
    """All that the commands write until they end by themselves."""
    outputs: list[str] = []

    async def run() -> None:
        for command in commands:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "luma_memory.cli", *command),
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            async with asyncio.timeout(120):
                output, _ = await child.communicate()
            assert output or command == ("settings",), command
            outputs.append(f"$ {' '.join(command)}\n{output.decode()}")

    await asyncio.gather(run(), run())
    return "\n".join(outputs)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("commands", [COMMANDS, pytest.param(OTHERS, marks=pytest.mark.slow)])
async def test_no_command_reveals_a_secret_while_nothing_is_reachable(
    tmp_path: Path, commands: Sequence[tuple[str, ...]]
) -> None:
    environment = {**secrets(port=1), "MEMORY_DATA_DIR": str(tmp_path)}
    outputs = await outputs_of(environment, iter(commands))
    assert leaks(outputs) == []
    assert "does not respond" in outputs


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_command_reveals_a_secret_while_nothing_responds(tmp_path: Path) -> None:
    async with hanging_server() as port:
        environment = {**secrets(port), "MEMORY_DATA_DIR": str(tmp_path)}
        outputs = await outputs_of(environment, iter(COMMANDS + OTHERS))
    assert leaks(outputs) == []


async def test_no_command_reveals_a_secret_in_the_wrong_place(tmp_path: Path) -> None:
    wrong = {variable_name(field): canary(field) for field in Settings.model_fields}
    environment = wrong | {"MEMORY_DATA_DIR": str(tmp_path)}
    outputs = await outputs_of(environment, iter([("doctor",), ("serve",)]))
    assert outputs.count("DATABASE_URL is wrong") == 2
    assert leaks(outputs) == []


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SONG}@127.0.0.1:1/db?sslmode=bogus",
        f"postgresql://u:{SONG}@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/none/{SONG}",
        f"postgresql://u:{SONG}@127.0.0.1:1/db?{SONG}=1",
        f"postgresql://u:{SONG}/more@127.0.0.1:1/db",
        f"postgresql://u:p#{SONG}@127.0.0.1:1/db",
        f"postgresql://u:{SONG}@127.0.0.1:port/db",
        f"{SONG}",
    ],
)
def test_no_address_is_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    outputs = ""
    try:
        outputs = repr(load_settings())
    except SetupError as error:
        outputs = f"{error} {error.__cause__} {error.__context__}"
    assert leaks(outputs) == []


@asynccontextmanager
async def service(data_dir: Path, lines: list[str]) -> AsyncIterator[tuple[FaultyServer, Stack]]:
    server = FaultyServer(data_dir)
    dsn = await asyncio.to_thread(server.start)
    password = quote(canary("database"), safe="")
    address = dsn.replace("@", f":{password}@", 1)
    settings = load_settings(database_url=address, host="127.0.0.1", port=0)
    stack = Stack(settings, on_line=lambda name, line: lines.append(f"{name}: {line}"))
    try:
        await stack.start()
        yield server, stack
    finally:
        await stack.stop()
        await asyncio.to_thread(server.close)


@pytest.mark.timeout(300)
async def test_a_running_service_reveals_no_secret_during_outages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in secrets(port=1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEMORY_PROVIDER_TIMEOUT_MS", "1000")
    lines: list[str] = []
    async with service(tmp_path / "database", lines) as (server, stack):
        responses, doctor = await asyncio.gather(
            every_request(stack),
            outputs_of({"DATABASE_URL": stack.database_url}, iter([("doctor", "--online")])),
        )
        assert {response.status_code for response in responses} >= {200, 202, 401, 404, 422}
        await server.stop_hard()
        later = await every_request(stack)
        assert {response.status_code for response in later} >= {401, 503}
    outputs = [
        f"{response.request.url.path} {response.headers} {response.text}" for response in responses
    ]
    outputs += [
        f"{response.request.url.path} {response.headers} {response.text}" for response in later
    ]
    assert leaks("\n".join([*outputs, *lines, doctor])) == []
    assert any("provider" in line for line in lines), "the provider was tried"
    assert len(lines) > 20


async def every_request(stack: Stack) -> Sequence[httpx2.Response]:
    """Every route, with the key, without, and with what is refused."""
    headers = {"Authorization": f"Bearer {canary('admin')}"}
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, headers=headers, trust_env=False, timeout=60
    ) as client:
        accepted = await client.post("/blocks", json={"user_id": "ada", "content": "Tea."})
        block_id = accepted.json().get("id", "00000000-0000-0000-0000-000000000000")
        requests = [
            client.post("/blocks?wait=true", json={"user_id": "ada", "content": "Milk."}),
            client.post("/blocks", json={"user_id": "ada", "content": ""}),
            client.post("/search", json={"user_id": "ada", "query": "tea"}),
            client.post("/context", json={"user_id": "ada", "query": "tea"}),
        ]
        for path in (
            *("/health", "/health/live", "/health/ready", "/metrics", "/cache/stats", "/usage"),
            *("/blocks?user_id=ada", f"/blocks/{block_id}?user_id=ada", "/jobs", "/jobs/stats"),
            *("/users/ada/export", "/openapi.json", "/docs", "/nowhere"),
        ):
            requests.append(client.get(path))
        for shown in (canary("other"), f"{canary('x')}.{canary('y')}.{canary('z')}", TOKEN):
            for name, prefix in (("Authorization", "Bearer "), ("X-API-Key", "")):
                others = {"Authorization": "", name: prefix + shown}
                requests.append(client.get("/jobs", headers={k: v for k, v in others.items() if v}))
        return [accepted, *await asyncio.gather(*requests)]


def _part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


# Shaped like an access token, so that its issuer's keys are fetched.
TOKEN = f'{_part(chr(123) + """"alg":"ES256","kid":"k"}""")}.{_part("{}")}.{_part("signature")}'
assert len({*itertools.chain(secrets(1))}) > 10
