"""The hooks of a coding agent, with recorded input of the host, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.service import all_blocks, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")
# The limit is a second; a busy machine alone takes longer to start an interpreter.
SECONDS_MAX = 30
BUSY_SECONDS_MAX = 120


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


def transcript(path: Path, *texts: str) -> Path:
    lines: list[dict[str, Any]] = [{"type": "summary", "summary": "not a turn"}]
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        content: Any = [{"type": "text", "text": text}, {"type": "tool_use", "name": "Bash"}]
        lines.append(
            {
                "type": role,
                "uuid": f"turn-{number}",
                "timestamp": "2026-03-02T18:30:00Z",
                "message": {"role": role, "content": content if number % 2 else text},
            }
        )
    path.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"half', encoding="utf-8")
    return path


async def hook(
    event: str, given: Any, data_dir: Path, **environment: str
) -> tuple[dict[str, Any], str]:
    """The reply, and the log."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    text = given if isinstance(given, str) else json.dumps(given)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "luma_memory", "hook", event],
        input=text.encode(),
        env={**base, "MEMORY_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    log = data_dir / "hook.log"
    return json.loads(done.stdout), log.read_text(encoding="utf-8") if log.exists() else ""


def _service(api: KeyedService, key: str, user_id: str) -> dict[str, str]:
    return {
        "MEMORY_API_URL": api.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": user_id,
    }


async def test_turns_are_stored_once_without_secrets_and_recalled(
    api: KeyedService, tmp_path: Path
) -> None:
    key = await api.key("ingest", "read", user_id="ada")
    service = _service(api, key, "ada")
    path = transcript(
        tmp_path / "session.jsonl",
        "We release the walrus service on Thursdays. The password is hunter2x.",
        "Understood: releases of the walrus service happen on Thursdays.",
    )
    given = {"session_id": "s-1", "transcript_path": str(path), "cwd": "/projects/walrus"}
    async with api.client(key) as client:
        stored: list[dict[str, Any]] = []
        # A call on a busy machine may run out of time: the next event stores its turns as well.
        async with asyncio.timeout(BUSY_SECONDS_MAX):
            while not stored:
                await hook("Stop", given, tmp_path / "data", **service)
                stored = await all_blocks(client, "ada")
        await hook("SessionEnd", given, tmp_path / "data", **service)
        stored = await all_blocks(client, "ada")
        await until_idle(client)
        assert [block["speaker"] for block in stored] == ["assistant", "user"]
        assert all(block["session_id"] == "s-1" for block in stored)
        assert "hunter2x" not in json.dumps(stored)
    event = {"session_id": "s-2", "prompt": "When do we release the walrus service?"}
    replies: list[dict[str, Any]] = []
    async with asyncio.timeout(BUSY_SECONDS_MAX):
        while not any("hookSpecificOutput" in reply for reply in replies):
            reply, _ = await hook("UserPromptSubmit", event, tmp_path / "data", **service)
            replies.append(reply)
    contexts = [reply["hookSpecificOutput"] for reply in replies if "hookSpecificOutput" in reply]
    assert contexts
    assert contexts[0]["hookEventName"] == "UserPromptSubmit"
    assert "Thursdays" in contexts[0]["additionalContext"]
    notices = [reply["systemMessage"] for reply in replies if "systemMessage" in reply]
    assert len(notices) == 1
    assert "MEMORY_HOOK_ENABLED=false" in notices[0]


async def test_a_session_starts_with_what_is_known_about_its_project(
    api: KeyedService, tmp_path: Path
) -> None:
    key = await api.key("ingest", "read", user_id="bob")
    service = _service(api, key, "bob")
    async with api.client(key) as client:
        text = "Decision for the walrus project: we use uv for packages."
        await client.post("/blocks", json={"user_id": "bob", "content": text})
        await until_idle(client)
    given = {"session_id": "s-3", "source": "startup", "cwd": "/projects/walrus"}
    reply: dict[str, Any] = {}
    async with asyncio.timeout(BUSY_SECONDS_MAX):
        while "hookSpecificOutput" not in reply:
            reply, _ = await hook("SessionStart", given, tmp_path / "data", **service)
    shown = reply["hookSpecificOutput"]
    assert shown["hookEventName"] == "SessionStart"
    assert "we use uv" in shown["additionalContext"]


@pytest.mark.parametrize(
    ("event", "given"),
    [
        ("UserPromptSubmit", "not json"),
        ("UserPromptSubmit", ""),
        ("UserPromptSubmit", []),
        ("UserPromptSubmit", {"prompt": "Where is it?"}),
        ("Stop", {"session_id": "s", "transcript_path": "/nowhere/at-all.jsonl"}),
        ("Stop", {}),
        ("SessionStart", {"cwd": "/x"}),
    ],
)
async def test_a_hook_that_fails_is_one_line_of_the_log(
    tmp_path: Path, event: str, given: Any
) -> None:
    reply, log = await hook(event, given, tmp_path)
    assert reply == {}
    assert len(log.splitlines()) == 1
    assert f" {event}: " in log


async def test_a_service_that_hangs_does_not_hold_up_the_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []

        def accept_once() -> None:
            accepted.append(silent.accept()[0])

        accepting = threading.Thread(target=accept_once)
        accepting.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        reply, log = await hook(
            "UserPromptSubmit", {"prompt": "Hello?"}, tmp_path, MEMORY_API_URL=url
        )
        if accepting.is_alive():  # the time ended before the hook connected
            socket.create_connection(silent.getsockname()).close()
        accepting.join()
        accepted[0].close()
        assert reply == {}
        assert len(log.splitlines()) == 1


async def test_an_unknown_event_and_a_disabled_hook_do_nothing(tmp_path: Path) -> None:
    assert await hook("PreToolUse", {}, tmp_path) == ({}, "")
    reply = await hook("Stop", "ignored", tmp_path, MEMORY_HOOK_ENABLED="false")
    assert reply == ({}, "")


async def test_a_host_that_sends_nothing_is_not_blocked(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "luma_memory", "hook", "Stop"),
        env={**os.environ, "MEMORY_DATA_DIR": str(tmp_path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS_MAX):
        assert json.loads(await process.stdout.read()) == {}
        assert await process.wait() == 0
    (line,) = (tmp_path / "hook.log").read_text(encoding="utf-8").splitlines()
    assert line.endswith(" Stop: timed out")


async def test_a_log_that_hangs_does_not_hold_up_the_host(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hook.log")  # without a reader
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "luma_memory", "hook", "Stop"),
        env={**os.environ, "MEMORY_DATA_DIR": str(tmp_path)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        printed, _ = await process.communicate()
    assert (json.loads(printed), process.returncode) == ({}, 0)


async def test_a_refusal_is_logged_with_its_code(api: KeyedService, tmp_path: Path) -> None:
    wrong = {"MEMORY_API_URL": api.stack.base_url, "MEMORY_API_KEY": "lmk_" + "a" * 12}
    reply, log = await hook("UserPromptSubmit", {"prompt": "Hello?"}, tmp_path, **wrong)
    assert reply == {}
    assert re.search(r" UserPromptSubmit: (RejectedError 401 \w+|timed out)\n$", log), log


async def test_a_redirect_is_not_followed_with_the_key(tmp_path: Path) -> None:
    paths: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        url = f"http://127.0.0.1:{server.server_port}"
        given = {"MEMORY_API_URL": url, "MEMORY_API_KEY": "k" * 30}
        reply, log = await hook("UserPromptSubmit", {"prompt": "Hello?"}, tmp_path, **given)
        server.shutdown()
        running.join()
    assert (reply, len(log.splitlines())) == ({}, 1)
    assert "/elsewhere" not in paths
