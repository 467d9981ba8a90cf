"""`connect`: write the memory server into an agent host's configuration, or remove it."""

from __future__ import annotations

import difflib
import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from luma_memory.bootstrap.private_files import write_private_text
from luma_memory.cli.commands import examples
from luma_memory.domain.errors import SetupError

NAME: Final = "memory"
_SERVER: Final[Mapping[str, Any]] = {"command": "luma-memory", "args": ["mcp"]}
_BACKUP_SUFFIX: Final = ".luma-memory-backup"
_TOML_BEGIN: Final = "# luma-memory: begin"
_TOML_END: Final = "# luma-memory: end"


@dataclass(frozen=True, slots=True)
class Host:
    """Where a host keeps its servers. section: the JSON object that holds them; None: TOML."""

    path: Callable[[], Path]
    section: str | None
    extra: Mapping[str, Any]


def _home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _here(*parts: str) -> Callable[[], Path]:
    return lambda: Path.cwd().joinpath(*parts)


def _claude_desktop() -> Path:
    mac = Path.home() / "Library" / "Application Support" / "Claude"
    folder = mac if mac.parent.exists() else Path.home() / ".config" / "Claude"
    return folder / "claude_desktop_config.json"


HOSTS: Final[Mapping[str, Host]] = {
    "claude-code": Host(_here(".mcp.json"), "mcpServers", {}),
    "claude-desktop": Host(_claude_desktop, "mcpServers", {}),
    "codex": Host(_home(".codex", "config.toml"), None, {}),
    "cursor": Host(_home(".cursor", "mcp.json"), "mcpServers", {}),
    "vscode": Host(_here(".vscode", "mcp.json"), "servers", {"type": "stdio"}),
    "zed": Host(_home(".config", "zed", "settings.json"), "context_servers", {"source": "custom"}),
}


@examples("luma-memory connect cursor", "luma-memory connect codex --remove")
def connect(
    host: Annotated[
        str, typer.Argument(metavar="HOST", help=f"One of {', '.join(sorted(HOSTS))}.")
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the server from the configuration.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Add the memory server to an agent host's configuration.

    Shows the difference first and keeps a backup beside the file. Other entries are not changed,
    and an entry of this server keeps what was added to it.
    """
    if host not in HOSTS:
        raise SetupError(f"Unknown host {host}: one of {', '.join(sorted(HOSTS))}", code="no_host")
    chosen = HOSTS[host]
    # A configuration may be a link to a file that is kept elsewhere.
    path = chosen.path().resolve()
    before = _current(path)
    after = changed(before, chosen, path=path, remove=remove)
    if remove:
        after = _former(path, before, chosen) or after
    if after == before:
        typer.echo(f"{path} needs no change")
        return
    _show(before, after, path)
    if not yes and not typer.confirm("Write this change?"):
        raise typer.Exit(1)
    _write(path, before, after)
    typer.echo(f"{'Wrote' if after else 'Deleted'} {path}; restart the host")
    if not remove and sys.prefix != sys.base_prefix:
        program = Path(sys.prefix) / "bin" / _SERVER["command"]
        typer.echo(f"If the host does not find the command, replace it in the entry: {program}")


def _current(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise _unreadable(path, "text in UTF-8") from None


def _former(path: Path, text: str, host: Host) -> str | None:
    """The backup's text, if nothing but this server was added since: byte by byte as it was."""
    backup = _backup(path)
    if not backup.exists():
        return None
    former = backup.read_text(encoding="utf-8")
    return former if changed(former, host, path=path, remove=False) == text != former else None


def changed(text: str, host: Host, *, path: Path, remove: bool) -> str:
    """The configuration with the server, or without it.

    Raises SetupError if it cannot be read, or has another server of this name.
    """
    if host.section is None:
        return _changed_toml(text, path=path, remove=remove)
    return _changed_json(text, host, path=path, remove=remove)


def snippet(host: Host) -> str:
    """The configuration of a host that has no other servers."""
    return changed("", host, path=Path("configuration"), remove=False)


def _changed_json(text: str, host: Host, *, path: Path, remove: bool) -> str:
    try:
        document = json.loads(text, object_pairs_hook=_object) if text.strip() else {}
    except ValueError:
        raise _unreadable(path, "JSON without comments and repeated names") from None
    servers = document.get(host.section, {}) if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        raise _unreadable(path, f"an object `{host.section}`")
    present = NAME in servers
    if present and not _is_ours(servers[NAME]):
        raise _other_server(path)
    if present is not remove:
        return text
    kept = {name: value for name, value in servers.items() if name != NAME}
    servers = kept if remove else {**kept, NAME: {**host.extra, **_SERVER}}
    document = {**document, host.section: servers}
    if not servers:
        del document[host.section]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n" if document else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError where writing it again would drop an entry."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("repeated name")
    return document


def _changed_toml(text: str, *, path: Path, remove: bool) -> str:
    head, begin, rest = text.partition(_TOML_BEGIN)
    kept = head.rstrip("\n") + rest.partition(_TOML_END)[2] if begin else text
    kept = kept.rstrip("\n") + "\n" if kept.strip() else ""
    try:
        servers = tomllib.loads(kept).get("mcp_servers", {})
    except tomllib.TOMLDecodeError:
        raise _unreadable(path, "TOML") from None
    if remove:
        return kept if begin else text
    if NAME in servers:
        raise _other_server(path)
    block = [
        _TOML_BEGIN,
        f"[mcp_servers.{NAME}]",
        f"command = {json.dumps(_SERVER['command'])}",
        f"args = {json.dumps(_SERVER['args'])}",
        _TOML_END,
    ]
    return kept + ("\n" if kept else "") + "\n".join(block) + "\n"


def _is_ours(entry: object) -> bool:
    return isinstance(entry, dict) and Path(str(entry.get("command"))).name == _SERVER["command"]


def _other_server(path: Path) -> SetupError:
    return SetupError(
        f"{path} has another server named {NAME}: rename or remove it first", code="server_exists"
    )


def _unreadable(path: Path, expected: str) -> SetupError:
    return SetupError(
        f"{path} is not {expected}, so it is left unchanged: add the entry of docs/mcp.md by hand",
        code="configuration_unreadable",
    )


def _show(before: str, after: str, path: Path) -> None:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(path), str(path), lineterm=""
    )
    typer.echo("\n".join(lines))


def _backup(path: Path) -> Path:
    return path.with_name(path.name + _BACKUP_SUFFIX)


def _write(path: Path, before: str, after: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if before:
        shutil.copy2(path, _backup(path))
    if not after:
        path.unlink()
        return
    partial = path.with_name(path.name + ".new")
    write_private_text(partial, after)  # it may hold keys of other servers
    if path.exists():
        shutil.copymode(path, partial)
    partial.replace(path)
