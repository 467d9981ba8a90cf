"""A command that a test starts as a fork does what a new interpreter would have done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.commands import COMMAND, clean_environment
from tests.support.fork_server import Command, is_supported
from tests.support.forked_commands import ForkedCommands
from tests.support.redis_server import free_port

pytestmark = pytest.mark.skipif(not is_supported(), reason="commands are forked on Linux only")
WAITING = [sys.executable, "-P", "-m", "luma_memory.worker", "--prepare"]
SECONDS_MAX = 120.0


@pytest.fixture(scope="module")
def forked_commands(request: pytest.FixtureRequest) -> ForkedCommands:
    """Those of this test process."""
    conftest = request.config.pluginmanager.getplugin(
        str(Path(__file__).parents[1] / "conftest.py")
    )
    commands = vars(conftest)["forked_commands"]
    assert isinstance(commands, ForkedCommands)
    return commands


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """The commands that were forked."""
    seen: list[Command] = []
    start = ForkedCommands.start

    def noted(self: ForkedCommands, command: Command, files: list[int]) -> int:
        seen.append(command)
        return start(self, command, files)

    monkeypatch.setattr(ForkedCommands, "start", noted)
    return seen


def _run(
    *arguments: str, stdin: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean_environment(**environment),
        timeout=SECONDS_MAX,
        check=False,
    )


@contextlib.contextmanager
def _waiting(**options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has imported everything and waits for its settings."""
    with subprocess.Popen(
        WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["--version"], ""),
        (["jobs", "--help"], ""),
        (["no-such-command"], ""),
        (["settings"], ""),
        (["search", "tea", "--user", "ada", "--url", "http://127.0.0.1:{port}"], ""),
        (["ingest", "-", "--user", "ada"], "no JSON"),
        (["ingest", "blocks.jsonl", "--user", "ada"], ""),
        (["serve", "--host", "not an address"], ""),
    ],
)
def test_output_and_exit_code_are_the_same(
    arguments: list[str],
    stdin: str,
    forks: list[Command],
    forked_commands: ForkedCommands,
    tmp_path: Path,
) -> None:
    arguments = [word.format(port=free_port()) for word in arguments]
    (tmp_path / "blocks.jsonl").write_text("{\n")  # it is found from this folder only
    settings = {
        "MEMORY_DATA_DIR": str(tmp_path / "data"),
        "MEMORY_RECALL_LIMIT": "17",
        "DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/memory",
    }
    forked = _run(*arguments, stdin=stdin, cwd=tmp_path, **settings)
    assert [command.arguments for command in forks] == [arguments]
    with forked_commands.disabled():
        executed = _run(*arguments, stdin=stdin, cwd=tmp_path, **settings)
    assert len(forks) == 1
    assert (forked.stdout, forked.stderr) == (executed.stdout, executed.stderr)
    assert forked.returncode == executed.returncode


def test_it_is_a_child_of_the_test_in_its_session_and_folder(
    forks: list[Command], tmp_path: Path
) -> None:
    with _waiting(cwd=tmp_path) as process:
        found = psutil.Process(process.pid)
        assert (found.ppid(), os.getpgid(process.pid)) == (os.getpid(), os.getpgid(0))
        assert os.getsid(process.pid) == os.getsid(0)
        assert Path(found.cwd()) == tmp_path
        assert found.num_threads() == 1
        # Input, output, error; more while it reads the files of modules.
        end_at = time.monotonic() + SECONDS_MAX
        while found.num_fds() != 3 and time.monotonic() < end_at:
            time.sleep(0.01)
        assert found.num_fds() == 3
    with _waiting(start_new_session=True) as process:
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert len(forks) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it(number: signal.Signals, forks: list[Command]) -> None:
    with _waiting() as process:
        process.send_signal(number)
        assert process.wait(SECONDS_MAX) == -number
    assert forks


def test_the_end_of_its_input_ends_it(forks: list[Command]) -> None:
    with _waiting() as process:
        output, _ = process.communicate(b"", SECONDS_MAX)
        assert output == b""
        assert process.returncode == 0
    assert forks


def test_its_traceback_is_printed_and_ends_it_with_1(forks: list[Command]) -> None:
    with _waiting() as process:
        output, _ = process.communicate(b"no JSON\n", SECONDS_MAX)
        assert process.returncode == 1
    assert "JSONDecodeError" in output.decode()
    assert forks


def _nothing() -> None:
    """To be called between fork and exec."""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("env", {"PYTHONHASHSEED": "7"}),
        ("env", {"OPENBLAS_NUM_THREADS": "2"}),
        ("env", {"COLUMNS": "40"}),
        ("pass_fds", [0]),
        ("process_group", 0),
        ("preexec_fn", _nothing),
        ("umask", 0o022),
    ],
)
def test_what_a_fork_would_not_have_is_a_new_interpreter(
    option: str, value: Any, forks: list[Command]
) -> None:
    if option == "env":
        value = {**os.environ, **value}
    with _waiting(**{option: value}) as process:
        pass
    assert process.returncode == -signal.SIGKILL
    assert forks == []


@pytest.mark.parametrize(
    "words",
    [
        [sys.executable, "-c", "pass"],
        [sys.executable, "-m", "luma_memory", "--version"],
        [sys.executable, "-P", "-W", "error", "-m", "luma_memory.cli", "--version"],
        [str(Path(sys.executable).with_name("luma-memory")), "--version"],
    ],
)
def test_other_programs_are_started_as_usual(words: list[str], forks: list[Command]) -> None:
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert forks == []


@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "ORT_DISABLE_TELEMETRY"])
@pytest.mark.parametrize("is_set", [True, False])
def test_a_variable_that_importing_the_service_sets_changes_nothing(
    name: str, is_set: bool, forks: list[Command]
) -> None:
    """As those of a test process that has imported it itself."""
    environment = {key: value for key, value in os.environ.items() if key != name}
    with _waiting(env=environment | ({name: "1"} if is_set else {})):
        pass
    assert forks


@pytest.mark.new_interpreters
def test_a_test_may_ask_for_new_interpreters(forks: list[Command]) -> None:
    with _waiting():
        pass
    assert forks == []


def test_a_terminal_gets_a_new_interpreter(forks: list[Command]) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run([*COMMAND, "--version"], stdout=theirs, check=False)
    os.close(theirs)
    os.close(ours)
    assert (done.returncode, forks) == (0, [])


def test_threads_get_the_output_of_their_own_commands(forks: list[Command]) -> None:
    names = ["jobs", "keys", "usage", "search"]
    with ThreadPoolExecutor(len(names)) as threads:
        printed = threads.map(
            lambda name: subprocess.check_output([*COMMAND, name, "--help"], text=True), names
        )
        for name, text in zip(names, printed, strict=True):
            assert f"luma-memory {name} " in text
    assert len(forks) == len(names)
