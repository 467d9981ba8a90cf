"""The OpenAPI document is complete, and every answer keeps to it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.service import BASE_PATH

pytestmark = pytest.mark.asyncio(loop_scope="module")
ADMIN = "a-first-key-for-a-container"
HOOKS = Path(__file__).parents[1] / "support"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers, first_key=False, admin_key=ADMIN) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(api: KeyedService) -> dict[str, Any]:
    async with api.client(None) as client:
        response: dict[str, Any] = (await client.get("/openapi.json")).json()
        return response


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path.removeprefix(BASE_PATH)}", operation


async def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["description"], name
        assert operation["tags"], name
        if "health" in name and "cache" not in name:
            assert operation["security"] == []
            continue
        assert operation["x-permission"] in ("ingest", "read", "admin", "any"), name
        assert operation["security"] == [{"bearer": []}, {"apiKey": []}], name
        assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (name, status)
        if "requestBody" in operation:
            assert operation["x-body-bytes-max"] > 0, name
        keyed = [p["name"].lower() for p in operation.get("parameters", []) if p["in"] == "header"]
        is_write = not name.startswith("GET") and operation["x-permission"] != "read"
        # Imported blocks have ids of their own; the secret of an edited webhook or of a new key
        # must not be kept.
        unkeyed = ("/import", "PATCH /webhooks/{webhook_id}", "POST /keys")
        if is_write and not name.endswith(unkeyed):
            assert "idempotency-key" in keyed, name


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references - set(document["components"]["schemas"]) == set()
    assert "Problem" in references


async def test_bodies_have_examples(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            if media != "application/json":
                continue
            schema = document["components"]["schemas"][content["schema"]["$ref"].rsplit("/")[-1]]
            assert schema.get("examples") or "blocks" in schema["properties"], name


def schemathesis(
    api: KeyedService, folder: Path, *options: str, seconds: int
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            *("--config-file", str(HOOKS / "schemathesis.toml"), "run", "--no-color"),
            *("--max-time", str(seconds), "--exclude-path-regex", "/import$"),
            *("--header", f"Authorization: Bearer {ADMIN}", *options),
            f"{api.stack.base_url}{BASE_PATH}/openapi.json",
        ],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
            "PYTHONPATH": str(HOOKS),
        },
        cwd=folder,
        timeout=seconds + 120,
        check=False,
    )


async def test_every_response_conforms_to_the_document(api: KeyedService, tmp_path: Path) -> None:
    ended = await asyncio.to_thread(schemathesis, api, tmp_path, "--max-examples", "3", seconds=12)
    assert ended.returncode == 0, ended.stdout[-8_000:] + ended.stderr[-2_000:]
    assert re.search(r"(\d+) generated", ended.stdout), ended.stdout[-2_000:]


@pytest.mark.slow
async def test_every_response_conforms_to_the_document_at_length(
    api: KeyedService, tmp_path: Path
) -> None:
    ended = await asyncio.to_thread(
        schemathesis, api, tmp_path, "--max-examples", "200", seconds=600
    )
    print(*re.findall(r".* generated.*", ended.stdout))
    assert ended.returncode == 0, ended.stdout[-30_000:] + ended.stderr[-2_000:]
