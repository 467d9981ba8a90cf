"""Settings passed to a child process."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.cli.options import reachable_host, service_url
from luma_memory.settings import Settings, load_settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("os.environ", {})
    return load_settings(database_url=SecretStr("postgresql://u:geheim@h/d"), fail_fast=True)


def test_a_child_reads_the_settings_its_parent_has(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", settings_environment(settings, base={}))
    assert load_settings() == settings


def test_an_override_wins_and_none_unsets(settings: Settings) -> None:
    base = {"OPENAI_API_KEY": "old", "PATH": "/bin"}
    environment = settings_environment(
        settings, base=base, database_url=None, port=9, data_dir=Path("a b"), stop_with_parent=True
    )
    assert "DATABASE_URL" not in environment
    assert "OPENAI_API_KEY" not in environment
    assert environment["PATH"] == "/bin"
    assert environment["MEMORY_PORT"] == "9"
    assert environment["MEMORY_DATA_DIR"] == "a b"
    assert environment["MEMORY_STOP_WITH_PARENT"] == "true"


def test_no_secret_is_an_argument(settings: Settings) -> None:
    assert settings_environment(settings, base={})["DATABASE_URL"] == "postgresql://u:geheim@h/d"
    assert "geheim" not in " ".join(python_arguments("luma_memory.api"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "http://127.0.0.1:8080"),
        ("http://memory.example/", "http://memory.example"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
    ],
)
def test_where_the_service_is(settings: Settings, url: str | None, expected: str) -> None:
    assert service_url(url, settings) == expected


@pytest.mark.parametrize(
    ("bound", "reached"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")],
)
def test_a_host_that_stands_for_all_is_reached_by_loopback(bound: str, reached: str) -> None:
    assert reachable_host(bound) == reached
