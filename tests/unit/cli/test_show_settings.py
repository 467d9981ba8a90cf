"""`luma-memory settings`: what is set here, and never a secret."""

from __future__ import annotations

import pytest

from luma_memory.cli.main import main
from luma_memory.settings import variable_names


def shown(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["settings", *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def test_every_setting_is_shown_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:open-sesame@db.example.com/memory")
    monkeypatch.setenv("MEMORY_RETRY_ATTEMPTS", "7")
    table = shown(capsys=capsys)
    assert all(name in table for name in variable_names())
    rows = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert " 7 " in rows["MEMORY_RETRY_ATTEMPTS"]
    assert "(set)" in rows["DATABASE_URL"]
    assert "sesame" not in table + shown("--format", "env", capsys=capsys)
