"""The console's files: paths, headers, and the errors where there is no console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI

from luma_memory.api.console import add_console, console_files
from luma_memory.api.problems import add_problem_handlers

PAGE = b"<!doctype html><title>Console</title>"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_bytes(PAGE)
    (tmp_path / "assets" / "main-1a2b.js").write_bytes(b"let x = 1;\n" * 1_000)
    made = FastAPI()
    add_problem_handlers(made)
    add_console(made)
    made.state.console = lambda: console_files(tmp_path)
    made.state.service = SimpleNamespace(settings=SimpleNamespace(console_enabled=True))
    return made


@pytest_asyncio.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", ["/ui/", "/ui/users", "/ui/users/ann", "/ui/index.html"])
async def test_pages_are_the_start_page(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.content) == (200, PAGE)
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["cache-control"] == "no-cache"
    policy = response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    again = await client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_folder_is_found_behind_any_prefix(client: httpx2.AsyncClient) -> None:
    response = await client.get("/ui")
    assert (response.status_code, response.headers["location"]) == (307, "ui/")


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_files_named_by_content_are_kept(client: httpx2.AsyncClient, encoding: str) -> None:
    response = await client.get("/ui/assets/main-1a2b.js", headers={"Accept-Encoding": encoding})
    assert response.content == b"let x = 1;\n" * 1_000
    assert response.headers.get("content-encoding", "identity") == encoding
    assert response.headers["content-type"].startswith("text/javascript")
    assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["/ui/none.js", "/ui/assets/../../x.py", "/ui/%2e%2e/settings.py", "/ui/a%2Fb.js"]
)
async def test_other_files_are_not_found(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_installation_without_the_console_reports_it(
    app: FastAPI, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    app.state.console = lambda: console_files(tmp_path / "nothing")
    for path in ("/ui", "/ui/", "/ui/x.js"):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "console_not_built")


async def test_the_console_can_be_switched_off(app: FastAPI, client: httpx2.AsyncClient) -> None:
    app.state.service.settings.console_enabled = False
    response = await client.get("/ui/")
    assert (response.status_code, response.json()["code"]) == (404, "console_disabled")
