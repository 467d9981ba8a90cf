"""`export` writes a user to a file; what it writes is read back, and nothing is kept half."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import httpx2
import pytest
from tests.support.commands import run
from tests.support.service import all_blocks

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = (
    ("Moved to Lisbon. 🪵", "Ann", "chat-7", "2026-03-02T09:00:00+01:00"),
    ("Grüße\n\naus Kiel", None, None, "2026-03-03T09:00:00Z"),
)


async def test_what_is_exported_is_imported_again(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    for content, speaker, session, occurred_at in TEXTS:
        body = {"content": content, "speaker": speaker, "session_id": session}
        body |= {"user_id": "leaving", "occurred_at": occurred_at}
        response = await client.post("/blocks", json={k: v for k, v in body.items() if v})
        assert response.status_code == 202, response.text
    original = await all_blocks(client, "leaving")
    at = ("--url", stack.base_url)
    for format_, name in (("mem0", "a.json"), ("markdown", "notes"), ("markdown", "notes.zip")):
        path = tmp_path / name
        made = run("export", "--user", "leaving", "--format", format_, "--output", path, *at)
        assert made.returncode == 0, made.stderr
        assert "2 blocks" in made.stderr
        file = path if path.is_file() else next(path.rglob("*.md"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        user = f"back-{format_}-{path.suffix}"
        read = run("import", path, "--user", user, *at, cwd=tmp_path)
        assert read.returncode == 0, read.stderr
        back = await all_blocks(client, user)
        assert [_facts(block) for block in back] == [_facts(block) for block in original]
    assert len(zipfile.ZipFile(tmp_path / "notes.zip").namelist()) == 2


async def test_our_own_lines_go_to_standard_output(stack: Stack) -> None:
    made = run("export", "--user", "nobody-here", "--url", stack.base_url)
    assert made.returncode == 0, made.stderr
    kinds = [json.loads(line)["kind"] for line in made.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("header", "end")


async def test_nothing_is_overwritten_or_left_half(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("mine")
    at = ("--user", "x", "--format", "mem0", "--output")
    kept = run("export", *at, path, "--url", stack.base_url)
    assert (kept.returncode, path.read_text()) == (2, "mine")
    lost = run("export", *at, tmp_path / "b.json", "--url", "http://127.0.0.1:9")
    assert lost.returncode == 1
    assert not (tmp_path / "b.json.partial").exists()
    assert not (tmp_path / "b.json").exists()
    nowhere = run("export", "--user", "x", "--format", "markdown", "--url", stack.base_url)
    assert (nowhere.returncode, "--output" in nowhere.stderr) == (2, True)


def _facts(block: dict[str, object]) -> tuple[object, ...]:
    return tuple(block[name] for name in ("content", "speaker", "occurred_at"))
