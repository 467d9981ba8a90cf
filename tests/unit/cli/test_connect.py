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
@pytest.mark.parametrize("text", ["{ // comment\n}", "[1", '{"servers": 7, "mcpServers": 7, '])
def test_an_unreadable_configuration_is_left_alone(host: str, text: str) -> None:
    with pytest.raises(SetupError, match="left unchanged"):
        changed(text, HOSTS[host], path=Path("configuration"), remove=False)


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
    assert not path.exists()
    assert run("connect", "emacs") == 1


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
