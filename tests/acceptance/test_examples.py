"""The programs in examples/ run against a real service that requires keys."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers

from luma_memory.client import AsyncMemoryClient, Forbidden

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Path(__file__).parents[2] / "examples"
LISTED = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text("utf-8"))
assert sorted(LISTED) == sorted(path.name for path in EXAMPLES.glob("*.py"))
TESTED = {"batch_import.py", "chat_bot.py", "fastapi_app.py", "mem0_routes.py"}
assert set(LISTED) == TESTED, "test the new one here"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


async def run(
    service: KeyedService, name: str, *arguments: str, key: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEMORY_URL": service.stack.base_url, "MEMORY_API_KEY": key}
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )
    )


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def test_the_chat_bot_remembers_an_earlier_conversation(service: KeyedService) -> None:
    key = await service.key("ingest", "read")
    first = await run(
        service, "chat_bot.py", "--user", "mira", key=key, given="I am allergic to peanuts.\n"
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == "I do not remember anything about that yet.\n"
    second = await run(
        service, "chat_bot.py", "--user", "mira", key=key, given="What am I allergic to?\n"
    )
    assert "I am allergic to peanuts." in second.stdout, second.stderr


async def test_the_chat_bot_reports_a_wrong_key(service: KeyedService) -> None:
    ended = await run(service, "chat_bot.py", key="lmk_" + "x" * 40, given="Hello\n")
    assert ended.returncode == 1
    assert "credentials_invalid" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_an_import_reports_invalid_lines_and_can_be_repeated(
    service: KeyedService, tmp_path: Path
) -> None:
    key = await service.key("ingest", "read")
    notes = tmp_path / "notes.jsonl"
    good = [{"id": number, "content": f"Note {number}."} for number in range(3)]
    lines = [json.dumps(good[0]), "not json", json.dumps(good[1]), "[]", json.dumps(good[2])]
    notes.write_text("\n".join(lines), encoding="utf-8")
    for _ in range(2):
        ended = await run(service, "batch_import.py", str(notes), "--user", "iva", key=key)
        assert ended.returncode == 1
        assert "stored 3 blocks, rejected 2 lines" in ended.stdout, ended.stderr
        assert re.findall(r"line (\d+): text_blank", ended.stderr) == ["2", "4"]
    async with AsyncMemoryClient(service.stack.base_url, api_key=key) as memory:
        stored = [block.content async for block in memory.iterate_blocks("iva")]
    assert sorted(stored) == ["Note 0.", "Note 1.", "Note 2."]


async def test_the_routes_of_mem0_remember(service: KeyedService) -> None:
    key = await service.key("ingest", "read")
    texts = ("I keep bees.", "What do I keep?")
    ended = await run(service, "mem0_routes.py", "--user", "lea", *texts, key=key)
    assert ended.stderr == "succeeded: I keep bees.\n"
    assert re.fullmatch(r"[01]\.\d\d I keep bees\.\n", ended.stdout)
    refused = await run(service, "mem0_routes.py", *texts, key="lmk_" + "x" * 40)
    assert refused.returncode == 1
    assert refused.stderr.startswith("401: ")


async def test_an_import_of_a_missing_file_is_an_error(
    service: KeyedService, tmp_path: Path
) -> None:
    ended = await run(
        service, "batch_import.py", str(tmp_path / "none"), "--user", "iva", key="k" * 40
    )
    assert ended.returncode == 1
    assert "Cannot read" in ended.stderr


async def test_the_application_opens_each_user_their_own_memory(
    service: KeyedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {name: await service.key("ingest", "read", user_id=name) for name in ("nora", "omar")}
    users = {f"token-of-{name}": {"user_id": name, "key": key} for name, key in keys.items()}
    path = tmp_path / "users.json"
    path.write_text(json.dumps(users), encoding="utf-8")
    monkeypatch.setenv("NOTES_USERS", str(path))
    monkeypatch.setenv("MEMORY_URL", service.stack.base_url)
    application = loaded("fastapi_app").app
    transport = httpx2.ASGITransport(app=application)
    async with (
        application.router.lifespan_context(application),
        httpx2.AsyncClient(transport=transport, base_url="http://notes") as client,
    ):
        nora, omar = ({"Authorization": f"Bearer token-of-{name}"} for name in keys)
        added = await client.post("/notes", json={"text": "Nora likes figs."}, headers=nora)
        assert added.status_code == 202, added.text
        found = await client.get("/notes", params={"q": "figs"}, headers=nora)
        assert [note["text"] for note in found.json()] == ["Nora likes figs."]
        others = await client.get("/notes", params={"q": "figs"}, headers=omar)
        assert others.json() == []
        blank = await client.post("/notes", json={"text": " "}, headers=nora)
        assert (blank.status_code, blank.json()["code"]) == (422, "invalid_request")
        unknown = await client.get(
            "/notes", params={"q": "figs"}, headers={"Authorization": "Bearer x"}
        )
        assert unknown.status_code == 401
    async with AsyncMemoryClient(service.stack.base_url, api_key=keys["omar"]) as memory:
        with pytest.raises(Forbidden):
            await memory.search("figs", user_id="nora")
