"""The documentation's site builds without a warning, loads nothing, and its examples work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.support.documents import requests
from tests.support.live import Live
from tools.diagrams import DOCS, drawing, sources

from luma_memory.settings import variable_names

ROOT = Path(__file__).resolve().parents[2]
# Those of the Supabase guide need its tokens; test_supabase_tokens.py has some.
PAGES_WITH_REQUESTS = [
    *(ROOT / "README.md", DOCS / "quick-start.md", DOCS / "cache.md"),
    *(DOCS / "deploy.md", DOCS / "troubleshooting.md"),
]
# What a page loads by itself; links that a reader follows may lead anywhere.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(https?:)?//"
    r"|<link[^>]*rel=[\"']?(?:stylesheet|preconnect|preload)[^>]*href=[\"']?(https?:)?//"
    r"|url\([\"']?https?://"
)


def test_every_page_is_listed_or_left_out_on_purpose() -> None:
    """The site's own check verifies it as well, so no page may be hidden from it."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"([\w/.-]+\.md)$", text, re.MULTILINE)
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    decisions = {page for page in pages if page.startswith("adr/")}  # listed by their folder
    assert sorted(listed) == sorted(pages - decisions)
    assert "omitted_files: warn" in text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.site
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert not _LOADED.search(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?://", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.site
def test_the_first_page_explains_what_a_memory_block_is(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    assert "stored record" in first
    assert "in-prompt slot" in first


@pytest.mark.site
def test_references_are_made_of_the_code(site: Path) -> None:
    http = (site / "http-reference" / "index.html").read_text(encoding="utf-8")
    assert "/api/v1/memory/blocks/{block_id}" in http
    assert "<!-- the reference" not in http
    python = (site / "python-reference" / "index.html").read_text(encoding="utf-8")
    assert 'id="luma_memory.client.MemoryClient.ingest_block_async"' in python
    settings = (site / "settings" / "index.html").read_text(encoding="utf-8")
    assert all(name in settings for name in variable_names())


def test_every_diagram_is_drawn_as_it_stands() -> None:
    drawn = {drawing(source) for _, source in sources()}
    assert drawn == set((DOCS / "diagrams").glob("*.svg")), "run tools/diagrams.py"


def test_no_page_with_requests_is_forgotten() -> None:
    asking = {page for page in (ROOT / "README.md", *DOCS.glob("*.md")) if list(requests(page))}
    assert asking == {*PAGES_WITH_REQUESTS, DOCS / "supabase.md"}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("page", PAGES_WITH_REQUESTS, ids=lambda page: page.name)
async def test_the_requests_of_a_page_succeed(page: Path, live: Live) -> None:
    tried = 0
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        for program, silent, url, *rest in requests(page):
            assert (program, silent) == ("curl", "-s")
            options = list(zip(rest[::2], rest[1::2], strict=True))
            headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
            bodies = [value for name, value in options if name == "-d"]
            response = await client.request(
                "POST" if bodies else "GET",
                url.replace("http://127.0.0.1:8080", live.stack.base_url),
                content=bodies[0] if bodies else None,
                headers=headers,
            )
            assert response.is_success, response.text
            tried += 1
            if bodies and "query" in json.loads(bodies[0]) and "search" in url:
                assert "Lisbon" in response.json()["results"][0]["block"]["content"]
    assert tried
