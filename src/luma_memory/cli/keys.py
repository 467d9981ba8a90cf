"""`keys`: manage API keys directly in the database, so creating the first key needs no key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.bootstrap.operators import open_keys
from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, plain, print_note, printable
from luma_memory.cli.running import run_async
from luma_memory.domain.access import EVERY_PERMISSION, ApiKey, Permission
from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.protocol.validation import NAME_CHARACTERS_MAX
from luma_memory.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@examples(
    "luma-memory keys create --permission ingest --permission read --name chat-backend",
    "luma-memory keys create --permission read --user ada",
    "luma-memory keys create --permission admin --project shop",
)
def keys_create(
    permissions: Annotated[
        list[str] | None,
        typer.Option(
            "--permission",
            metavar="|".join(EVERY_PERMISSION),
            help="What the key permits; may be repeated. Required.",
        ),
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", hidden=True),  # the former name of --permission
    ] = None,
    project: Annotated[
        str, typer.Option("--project", metavar="PROJECT", help="The project whose data it opens.")
    ] = DEFAULT_PROJECT,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Restrict it to this end user.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="A label for `keys list`.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it. It is shown only once: the database keeps its hash.

    Permissions: `ingest` stores, edits and deletes blocks, `read` reads and searches, `admin` does
    the rest (jobs, export, erasure). Running services accept the key immediately.
    """
    for what, text in (("--project", project), ("--user", user), ("--name", name)):
        if text is not None:
            _check_name(what, text)
    key, text = run_async(
        _create(
            load_settings(data_dir=data_dir),
            _permissions(permissions, scopes),
            project=project,
            user=user,
            name=name,
        )
    )
    if as_json:
        typer.echo(json.dumps({"key": text} | _facts(key), indent=2))
        return
    typer.echo(text)
    print_note("The key is not shown again. Send it as: Authorization: Bearer <key>")


@examples("luma-memory keys list", "luma-memory keys list --project shop --json")
def keys_list(
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="Only keys of this project.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List all keys, including revoked ones, by prefix; the keys themselves are not stored."""
    keys = run_async(_list(load_settings(data_dir=data_dir), project))
    if as_json:
        typer.echo(json.dumps([_facts(key) for key in keys], indent=2))
    elif keys:
        console().print(_table(keys))
    else:
        print_note("no keys")


@examples("luma-memory keys revoke lmk_abcdefghijkl")
def keys_revoke(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="The key's prefix from `keys list`.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key permanently; every process rejects it within a minute."""
    key = run_async(_revoke(load_settings(data_dir=data_dir), prefix))
    console().print(f"revoked {key.prefix}: rejected by every process within a minute")


def _permissions(named: Sequence[str] | None, scopes: Sequence[str] | None) -> list[Permission]:
    """The permissions of both options. Raises BadParameter for an unknown one, and for none."""
    if scopes:
        print_note("--scope is now --permission; the old name will be removed in the next version")
    permissions = [_permission(name) for name in [*(named or ()), *(scopes or ())]]
    if not permissions:
        raise typer.BadParameter(
            f"name at least one of {', '.join(EVERY_PERMISSION)}", param_hint="'--permission'"
        )
    return permissions


def _permission(name: str) -> Permission:
    for permission in EVERY_PERMISSION:
        if permission == name:
            return permission
    raise typer.BadParameter(
        f"{printable(name)} is not one of {', '.join(EVERY_PERMISSION)}",
        param_hint="'--permission'",
    )


def _check_name(what: str, text: str) -> None:
    if not text.strip() or not text.isprintable() or len(text) > NAME_CHARACTERS_MAX:
        raise Invalid(f"{what} must be 1 to {NAME_CHARACTERS_MAX} printable characters")


async def _create(
    settings: Settings,
    permissions: Sequence[Permission],
    *,
    project: str,
    user: str | None,
    name: str | None,
) -> tuple[ApiKey, str]:
    async with open_keys(settings) as keys:
        return await keys.create(permissions, project_id=project, user_id=user, name=name)


async def _list(settings: Settings, project: str | None) -> Sequence[ApiKey]:
    async with open_keys(settings) as keys:
        return await keys.list(project_id=project)


async def _revoke(settings: Settings, prefix: str) -> ApiKey:
    async with open_keys(settings) as keys:
        return await keys.revoke(prefix)


def _facts(key: ApiKey) -> dict[str, Any]:
    permissions = sorted(key.permissions)
    return {
        "prefix": key.prefix,
        "project_id": key.project_id,
        "user_id": key.user_id,
        "permissions": permissions,
        "scopes": permissions,  # the former name
        "name": key.name,
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in (
        "key",
        "project",
        "user",
        "permissions",
        "name",
        "created",
        "last used",
        "revoked",
    ):
        table.add_column(title, no_wrap=title == "key", overflow="fold")
    for key in keys:
        table.add_row(
            key.prefix,
            plain(key.project_id),
            plain(key.user_id or "any"),
            " ".join(sorted(key.permissions)),
            plain(key.name or ""),
            _instant(key.created_at),
            _instant(key.last_used_at),
            _instant(key.revoked_at),
            style="dim" if key.revoked_at else "",
        )
    return table


def _instant(instant: datetime | None) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if instant else "-"


keys = command_group(
    """Create, list and revoke API keys.

    Works directly on the database (DATABASE_URL or the data folder), so the service need not run.
    """,
    (keys_create, keys_list, keys_revoke),
    "luma-memory keys create --permission ingest --permission read",
    "luma-memory keys list",
    "luma-memory keys revoke lmk_abcdefghijkl",
)
