"""The command line as people use it: real processes, a real terminal's signals."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import asyncpg
import httpx2
import psutil
import pytest
from tests.support.commands import COMMAND, clean_environment, run, run_here

from luma_memory.concurrency.file_lock import is_locked
from luma_memory.postgres.embedded.layout import Layout
from luma_memory.postgres.embedded.postmaster import read_pid_file

pytestmark = pytest.mark.new_interpreters
RETRY_SECONDS = 120.0


class Up:
    """A `luma-memory up` and its terminal."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", "0", "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=clean_environment(),
        )
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        while True:
            try:
                line = self._queue.get(timeout=RETRY_SECONDS)
            except Empty:
                break
            if line is None:
                break
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        pytest.fail(f"no line {pattern!r} in:\n{''.join(self.lines)}")

    def ready(self) -> Up:
        self.url = self.line(r"ready on (http://\S+)").group(1)
        return self

    def child(self, name: str) -> psutil.Process:
        """The API's or a worker's process."""
        (found,) = [child for child in self.children() if f"luma_memory.{name}" in child.cmdline()]
        return found

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(RETRY_SECONDS)
        self._reader.join(RETRY_SECONDS)
        while (line := self._queue.get_nowait()) is not None:
            self.lines.append(line)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(RETRY_SECONDS)
        self._reader.join(RETRY_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder with a space in its path, not below pytest's: its parents are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="luma memory cli "))
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def running(data_dir: Path) -> Iterator[Up]:
    up = Up(data_dir)
    try:
        yield up.ready()
    finally:
        up.close()


def database_runs(data_dir: Path) -> bool:
    return is_locked(Layout(data_dir).server_lock)


def port_is_free(url: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with folder() as data_dir, running(data_dir / "data dir") as started:
        yield started


def accept(up: Up, content: str) -> None:
    """Send a block until it is accepted."""
    deadline = time.monotonic() + RETRY_SECONDS
    body = {"user_id": "ada", "content": content, "external_id": content}
    while time.monotonic() < deadline:
        try:
            response = httpx2.post(
                f"{up.url}/api/v1/memory/blocks",
                json=body,
                trust_env=False,
                timeout=RETRY_SECONDS,
            )
        except httpx2.TransportError:  # an API that is started again
            time.sleep(0.1)
            continue
        if response.status_code == 202:
            return
        assert response.status_code == 503, response.text
        time.sleep(float(response.headers["Retry-After"]) / 10)
    pytest.fail(f"{content} was never accepted")


def blocks(up: Up, user: str) -> list[dict[str, object]]:
    response = httpx2.get(
        f"{up.url}/api/v1/memory/blocks", params={"user_id": user, "limit": "200"}, trust_env=False
    )
    found: list[dict[str, object]] = response.json()["blocks"]
    return found


def test_ingest_search_and_ingest_again(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "my notes.jsonl"
    lines = [
        json.dumps({"content": "The harbour market opens at six.", "speaker": "Bram"}),
        "this is no JSON",
        json.dumps({"content": " ", "user_id": "ilka"}),
        json.dumps({"content": "Kestrel has new oak ribs.", "occurred_at": "2025-03-19T20:05:00Z"}),
        "",
        json.dumps({"content": "Kestrel has new oak ribs.", "metadata": {"n": "\ud800"}}),
    ]
    file.write_text("\n".join(lines))
    arguments = ("ingest", file, "--user", "ilka", "--url", up.url, "--wait", "--batch", "2")

    first = run(*arguments)
    assert first.returncode == 1, first.stderr
    assert re.search(r"accepted 2 · rejected 3 · seconds [\d.]+ · blocks/s \d+", first.stdout)
    assert "line 2: malformed_json" in first.stderr
    assert "line 3: text_blank: content:" in first.stderr
    assert "line 6: " in first.stderr
    stored = blocks(up, "ilka")
    assert [block["status"] for block in stored] == ["active", "active"]

    with file.open("a") as grown:
        grown.write("\n" + json.dumps({"content": "One line more."}))
    again = run(*arguments)
    assert "accepted 3" in again.stdout
    assert len(blocks(up, "ilka")) == 3

    shown = run("search", "what is Kestrel made of", "--user", "ilka", "--url", up.url, "--explain")
    assert shown.returncode == 0
    assert "Kestrel has new oak" in shown.stdout  # the text wraps to the next line
    assert "2025-03-19 20:05" in shown.stdout
    assert "\x1b" not in shown.stdout

    as_json = run("search", "harbour", "--user", "ilka", "--url", up.url, "--json", "--limit", "1")
    (result,) = json.loads(as_json.stdout)["results"]
    assert result["block"]["speaker"] == "Bram"


def test_a_good_file_from_standard_input_ends_with_0(up: Up) -> None:
    lines = [json.dumps({"content": content, "user_id": "stdin"}) for content in "xyy"]
    done = run_here("ingest", "-", "--url", up.url, stdin="\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert len(blocks(up, "stdin")) == 2  # the third is the second again


def test_a_second_up_on_the_same_folder_names_the_owner(up: Up) -> None:
    second = run("up", "--port", "0", "--data-dir", up.data_dir)
    assert second.returncode == 1
    (error,) = second.stderr.splitlines()
    assert error.startswith(f"luma-memory: data directory {up.data_dir}")
    assert f"process {up.process.pid}" in error


def test_a_taken_port_is_reported_with_the_childs_message(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    with folder() as other:
        second = run("up", "--port", port, "--data-dir", other / "data")
        assert not database_runs(other / "data")
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "--port or MEMORY_PORT" in second.stderr


def test_eval_through_a_running_service(up: Up, tmp_path: Path) -> None:
    file, figures = tmp_path / "tiny.json", tmp_path / "figures.json"
    file.write_text(json.dumps(tiny_dataset()))
    done = run_here("eval", file, "--url", up.url, "--json", figures)
    assert done.returncode == 0, done.stderr
    assert re.search(r"main\s+all\s+1\s+1\.000", done.stdout)
    written = json.loads(figures.read_text())
    assert written["rows"][0]["recall"]["10"] == 1.0
    assert written["queries"][0]["ranking"][0] == "a"


def test_context_prints_a_text_for_a_prompt(up: Up) -> None:
    lines = [{"content": f"Fact {n} about the windmill: \x1b[31m it turns."} for n in range(4)]
    file = "\n".join(json.dumps(line) for line in lines)
    with folder() as root:
        (root / "facts.jsonl").write_text(file)
        assert (
            run_here("ingest", root / "facts.jsonl", "--user", "mill", "--url", up.url).returncode
            == 0
        )
    arguments = ("context", "What about the windmill?", "--user", "mill", "--url", up.url)
    first = run_here(*arguments, "--max-blocks", "3", "--token-budget", "300")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("Fact ") == 3
    assert "\x1b" not in first.stdout
    assert re.search(r"3 blocks · \d+ of 300 tokens \(.+\) · computed", first.stderr)
    # Until the worker is done with them, blocks change and what was kept of them is not served.
    give_up_at = time.monotonic() + 120
    while True:
        again = run_here(*arguments, "--max-blocks", "3", "--token-budget", "300", "--json")
        if (response := json.loads(again.stdout))["cached"] or time.monotonic() > give_up_at:
            break
    assert response["cached"] is True
    cut = run_here(*arguments, "--token-budget", "50", "--quote")
    assert "cut to the budget" in cut.stderr or "nothing found" in cut.stderr
    no_user = run_here("context", "What?", "--user", "nobody at all", "--url", up.url)
    assert (no_user.stdout, no_user.stderr.strip()) == ("", "nothing relevant found")
    assert run_here("context", "What?", "--user", "mill", "--token-budget", "5").returncode == 2


def test_doctor_warns_about_an_unresponsive_redis(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    url = "redis://:geheim3@127.0.0.1:1/0"
    done = run_here("doctor", "--data-dir", up.data_dir, MEMORY_PORT=port, REDIS_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"warn\s+cache\s+Redis does not respond", done.stdout)
    assert "geheim" not in done.stdout + done.stderr


def test_doctor_finds_the_running_service(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    done = run_here("doctor", "--data-dir", up.data_dir, MEMORY_PORT=port, MEMORY_PROT="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{up.url} responds: ok, workers: 1" in done.stdout
    assert "did you mean MEMORY_PORT?" in done.stdout


def test_doctor_fails_without_showing_a_secret() -> None:
    done = run_here(
        "doctor",
        DATABASE_URL="postgresql://ada:geheim1@127.0.0.1:1/x",
        OPENAI_API_KEY="geheim2",
        MEMORY_PORT="0",
    )
    assert done.returncode == 1
    assert re.search(r"fail\s+database", done.stdout)
    assert "geheim" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def stopped_data_dir() -> Iterator[Path]:
    """A data directory whose database is made once; each test leaves it stopped."""
    with folder() as root:
        yield root / "data"


def test_killed_children_end_and_the_next_one_stops_in_order(stopped_data_dir: Path) -> None:
    data_dir = stopped_data_dir
    with running(data_dir) as killed:
        children = [killed.child("api"), killed.child("worker")]
        killed.process.kill()
        _, alive = psutil.wait_procs(children, timeout=RETRY_SECONDS)
        assert not alive
        assert port_is_free(killed.url)

    with running(data_dir) as after:
        children = [after.child("api"), after.child("worker")]
        after.process.send_signal(signal.SIGINT)
        assert after.end() == 0, after.lines
        assert not [child for child in children if child.is_running()]
        assert port_is_free(after.url)
        assert "up       │ stopped\n" in after.lines
    assert not database_runs(data_dir)


def test_a_worker_that_is_killed_again_and_again_ends_everything_and_is_named(
    stopped_data_dir: Path,
) -> None:
    data_dir = stopped_data_dir
    with running(data_dir) as up:
        api = up.child("api")
        while up.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration, ValueError):
                up.child("worker").kill()
            time.sleep(0.05)
        assert up.end() == 1
        assert not api.is_running()
        again = [line for line in up.lines if "restarting it" in line]
        assert len(again) == 5
        assert "luma-memory: worker was terminated by SIGKILL" in "".join(up.lines)
    assert not database_runs(data_dir)


def test_a_killed_database_and_killed_children_are_started_again() -> None:
    with folder() as root:
        data_dir = root / "data"
        with running(data_dir) as up:
            if not any("Memory Worker Starting" in line for line in up.lines):
                up.line("Memory Worker Starting")
            # Killed twice: the second time it is the server that came back.
            for n in range(2):
                found = read_pid_file(Layout(data_dir).pid_file)
                assert found is not None
                psutil.Process(found.pid).kill()
                up.line("database │ PostgreSQL has exited, restarting it")
                accept(up, f"number {n}")
            assert len(blocks(up, "ada")) == 2
            api, worker = up.child("api"), up.child("worker")
            worker.kill()
            up.line("worker   │ worker was terminated by SIGKILL, restarting it")
            api.kill()
            up.line("api      │ api was terminated by SIGKILL, restarting it")
            psutil.wait_procs([api, worker], timeout=RETRY_SECONDS)
            accept(up, "after both")
            deadline = time.monotonic() + RETRY_SECONDS
            while [block["status"] for block in blocks(up, "ada")] != ["active"] * 3:
                assert time.monotonic() < deadline, blocks(up, "ada")
                time.sleep(0.1)
            up.process.send_signal(signal.SIGINT)
            assert up.end() == 0, up.lines
        assert not database_runs(data_dir)


def test_demo_of_a_small_conversation(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(tiny_dataset()))
    with folder() as root:
        done = run("demo", file, "--data-dir", root / "data dir")
        assert not database_runs(root / "data dir")
    assert done.returncode == 0, done.stderr
    assert re.search(r"3 blocks accepted .*: p50 [\d.]+ ms, p99 [\d.]+ ms", done.stdout)
    assert "blocks active: 3 of 3" in done.stderr
    assert "? Where is the ferry?" in done.stdout
    assert "  ✓ " in done.stdout
    assert "1 of 1 questions have evidence in the first 10; recall@10 1.00" in done.stdout


async def test_the_printed_schema_loads_into_an_empty_database(empty_dsn: str) -> None:
    printed = run("migrate", "--print")
    assert printed.returncode == 0
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute(printed.stdout)
    finally:
        await connection.close()
    done = run("migrate", DATABASE_URL=empty_dsn)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("already at ")


def test_help_and_version_load_no_part_of_the_service() -> None:
    code = (
        "import sys, luma_memory.cli.main;"
        "sys.exit(any(name in sys.modules for name in ('luma_memory.bootstrap', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_service_is_reported_at_once() -> None:
    done = run_here("search", "x", "--user", "u", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith(
        "luma-memory: No service is listening at http://127.0.0.1:1: start one with"
    )


def tiny_dataset() -> dict[str, object]:
    """One conversation of three turns, and a question."""
    turns = {
        "a": "The ferry lies in the northern harbour.",
        "b": "Bread is sold out.",
        "c": "Good night!",
    }
    return {
        "format": "memory-retrieval/1",
        "name": "tiny",
        "conversations": [
            {
                "id": "tiny",
                "speakers": ["Ilka"],
                "items": [
                    {"id": name, "session": "S1", "speaker": "Ilka", "text": text}
                    for name, text in turns.items()
                ],
                "queries": [
                    {
                        "id": "q",
                        "text": "Where is the ferry?",
                        "category": "single-hop",
                        "group": "main",
                        "evidence": ["a"],
                        "answer": "in the northern harbour",
                    }
                ],
            }
        ],
    }
