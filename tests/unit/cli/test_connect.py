"""Configurations of agent hosts: added, undone, and never damaged."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from luma_memory.cli.connect import HOSTS, changed, snippet
from luma_memory.cli.main import main
from luma_memory.domain.errors import SetupError

ROOT = Path(__file__).parents[3]
ENTRY = {"command": "luma-memory", "args": ["mcp"]}


def parsed(host: str, text: str) -> dict[str, Any]:
    section = HOSTS[host].section
    document = json.loads(text) if section else tomllib.loads(text)
    servers: dict[str, Any] = document[section or "mcp_servers"]
    return servers


@pytest.mark.parametrize("host", HOSTS)
def test_a_snippet_is_what_the_host_parses(host: str) -> None:
    entry = parsed(host, snippet(HOSTS[host]))["memory"]
    assert {name: entry[name] for name in ENTRY} == ENTRY


@pytest.mark.parametrize("host", HOSTS)
def test_adding_and_removing_restores_the_configuration(host: str) -> None:
    if HOSTS[host].section is None:
        before = 'model = "o5"\n\n[mcp_servers.other]\ncommand = "x"  # kept\n'
    else:
        other = {HOSTS[host].section: {"other": {"command": "x"}}, "theme": "dark"}
        before = json.dumps(other, indent=2) + "\n"
    path = Path("configuration")
    added = changed(before, HOSTS[host], path=path, remove=False)
    assert set(parsed(host, added)) == {"memory", "other"}
    assert changed(added, HOSTS[host], path=path, remove=False) == added
    assert changed(added, HOSTS[host], path=path, remove=True) == before
    assert changed(before, HOSTS[host], path=path, remove=True) == before


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    "text",
    [
        "{ // comment\n}",
        "[1",
        '{"servers": 7, "mcpServers": 7, ',
        '\ufeff{"a" = 1}',
        '{"a": 1, "a": 2}',
    ],
)
def test_an_unreadable_configuration_is_left_alone(host: str, text: str) -> None:
    with pytest.raises(SetupError, match="left unchanged"):
        changed(text, HOSTS[host], path=Path("configuration"), remove=False)


def test_a_configuration_in_another_encoding_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = "{}".encode("utf-16")
    (tmp_path / ".mcp.json").write_bytes(before)
    assert run("connect", "claude-code", "--yes") == 1
    assert "is not text in UTF-8, so it is left unchanged" in capsys.readouterr().err
    assert (tmp_path / ".mcp.json").read_bytes() == before


def test_a_change_is_shown_and_the_former_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text('{"mcpServers": {}}', encoding="utf-8")
    monkeypatch.setattr("typer.confirm", lambda _question: False)
    assert run("connect", "cursor") == 1
    assert '+    "memory": {' in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == '{"mcpServers": {}}'
    assert run("connect", "cursor", "--yes") == 0
    assert parsed("cursor", path.read_text(encoding="utf-8"))["memory"] == ENTRY
    backup = path.with_name("mcp.json.luma-memory-backup")
    assert backup.read_text(encoding="utf-8") == '{"mcpServers": {}}'
    assert run("connect", "cursor", "--remove", "--yes") == 0
    assert path.read_text(encoding="utf-8") == '{"mcpServers": {}}'
    assert run("connect", "emacs") == 1


@pytest.mark.parametrize("host", HOSTS)
def test_remove_restores_every_byte_of_a_hosts_file(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path, kept_elsewhere = HOSTS[host].path(), tmp_path / "dotfiles"
    section = HOSTS[host].section
    before = 'model = "o5"   # odd\n\n\n[mcp_servers.other]\ncommand="x"\n'
    if section is not None:
        before = f'{{"{section}":{{"other":\t{{"command": "x"}}}},\n "theme": "d\u00e4rk"}}'
    kept_elsewhere.write_text(before, encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(kept_elsewhere)
    assert run("connect", host, "--yes") == 0
    assert "+" in capsys.readouterr().out
    assert set(parsed(host, path.read_text(encoding="utf-8"))) == {"memory", "other"}
    assert run("connect", host, "--yes") == 0
    assert "needs no change" in capsys.readouterr().out
    assert run("connect", host, "--remove", "--yes") == 0
    assert path.is_symlink()
    assert path.read_text(encoding="utf-8") == before
    assert run("connect", host, "--remove", "--yes") == 0
    assert "needs no change" in capsys.readouterr().out


@pytest.mark.parametrize("host", HOSTS)
def test_a_file_that_did_not_exist_is_gone_after_remove(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run("connect", host, "--yes") == 0
    assert f"Wrote {HOSTS[host].path()}" in capsys.readouterr().out
    assert parsed(host, HOSTS[host].path().read_text(encoding="utf-8"))["memory"]
    assert run("connect", host, "--remove", "--yes") == 0
    assert not HOSTS[host].path().exists()
    shown = capsys.readouterr().out
    assert f"Deleted {HOSTS[host].path()}" in shown
    assert "Wrote" not in shown


@pytest.mark.parametrize("host", [name for name in HOSTS if HOSTS[name].section])
def test_another_server_of_the_name_is_left_alone(host: str) -> None:
    section, path = HOSTS[host].section, Path("configuration")
    other = json.dumps({section: {"memory": {"command": "npx", "args": ["other-memory"]}}})
    for remove in (False, True):
        with pytest.raises(SetupError, match="another server named memory"):
            changed(other, HOSTS[host], path=path, remove=remove)
    own = json.dumps({section: {"memory": {**ENTRY, "command": "/opt/bin/luma-memory", "env": {}}}})
    assert changed(own, HOSTS[host], path=path, remove=False) == own
    assert changed(own, HOSTS[host], path=path, remove=True) == ""


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_the_documented_snippets_are_the_written_ones() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    documented = re.findall(r"<!-- snippet: ([\w-]+) -->\n\n```\w+\n(.*?)```", page, re.DOTALL)
    assert {name for name, _ in documented} == set(HOSTS)
    for name, text in documented:
        assert parsed(name, text) == parsed(name, snippet(HOSTS[name]))


def test_the_plugin_runs_the_hooks_and_the_server() -> None:
    plugin = ROOT / "plugins" / "claude-code"
    manifest = json.loads((plugin / ".claude-plugin" / "plugin.json").read_text("utf-8"))
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text("utf-8"))
    assert market["plugins"][0]["name"] == manifest["name"] == "luma-memory"
    assert (ROOT / market["plugins"][0]["source"]).resolve() == plugin.resolve()
    assert json.loads((plugin / ".mcp.json").read_text("utf-8"))["mcpServers"]["memory"] == ENTRY
    hooks = json.loads((plugin / "hooks" / "hooks.json").read_text("utf-8"))["hooks"]
    commands = {event: hooks[event][0]["hooks"][0]["command"] for event in hooks}
    assert commands == {
        event: f"luma-memory hook {event}"
        for event in ("SessionStart", "UserPromptSubmit", "Stop", "SessionEnd")
    }
    skill = (plugin / "skills" / "memory" / "SKILL.md").read_text("utf-8")
    assert skill.startswith("---\nname: memory\ndescription: ")
