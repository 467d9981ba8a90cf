"""The command line itself: help, version, errors and exit codes."""

from __future__ import annotations

import pytest

from luma_memory import __version__
from luma_memory.cli import commands, servers
from luma_memory.cli.commands import COMMANDS, load_command
from luma_memory.cli.main import main
from luma_memory.domain.errors import SetupError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"luma-memory {__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert f"luma-memory {name}" in capsys.readouterr().out.partition("Examples")[2]
    assert load_command(name).help


@pytest.mark.parametrize(
    "arguments",
    [["sarch"], ["search"], ["up", "--port", "70000"], ["ingest", "/nowhere.jsonl"], ["up", "-x"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err


def test_an_error_of_ours_is_one_sentence_and_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMORY_PORT", "geheim")
    assert run("serve") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("luma-memory: MEMORY_PORT is wrong: it must be")
    assert captured.err.count("\n") == 1
    assert "geheim" not in captured.err + captured.out


def test_an_unexpected_error_shows_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret value")

    monkeypatch.setattr(servers, "load_settings", broken)
    assert run("serve") == 1
    error = capsys.readouterr().err
    assert "Unexpected ZeroDivisionError" in error
    assert "Traceback" not in error
    assert "secret value" not in error


def test_serve_and_worker_pass_settings_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def become(_path: str, arguments: list[str], environment: dict[str, str]) -> None:
        calls.append((arguments, environment))
        raise SetupError("stopped here")

    monkeypatch.setattr("os.execve", become)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:geheim@h/d")
    assert run("serve", "--host", "localhost", "--port", "0", "--data-dir", "a b") == 1
    assert run("worker", "--concurrency", "9") == 1
    (api_arguments, api), (worker_arguments, worker) = calls
    assert api_arguments[-1] == "luma_memory.api"
    assert (api["MEMORY_HOST"], api["MEMORY_PORT"], api["MEMORY_DATA_DIR"]) == (
        "localhost",
        "0",
        "a b",
    )
    assert worker_arguments[-1] == "luma_memory.worker"
    assert worker["MEMORY_WORKER_MAX_CONCURRENT_JOBS"] == "9"
    assert worker["DATABASE_URL"] == "postgresql://u:geheim@h/d"
    assert "geheim" not in " ".join(api_arguments + worker_arguments)


def test_the_table_of_commands_names_what_exists() -> None:
    assert {load_command(name).name for name in COMMANDS} == set(commands.COMMANDS)
