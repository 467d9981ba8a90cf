"""`keys`: who may call the API, straight from the database, so that the first key needs none."""

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
from luma_memory.cli.output import console, plain, printable, say_note
from luma_memory.cli.running import run_async
from luma_memory.domain.access import EVERY_PERMISSION, ApiKey, Permission
from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.protocol.gate import NAME_CHARACTERS_MAX
from luma_memory.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@examples(
    "luma-memory keys create --scope ingest --scope read --name chat-backend",
    "luma-memory keys create --scope read --user ada",
    "luma-memory keys create --scope ingest --scope read --scope admin --project shop",
)
def keys_create(
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="|".join(EVERY_PERMISSION),
            help="What it permits; may be repeated.",
        ),
    ],
    project: Annotated[
        str, typer.Option("--project", metavar="PROJECT", help="Whose data it opens.")
    ] = DEFAULT_PROJECT,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="This end user's data only.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="For you to know it by.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a key and show it, this once: only its hash is kept.

    Permissions: `ingest` stores, edits and deletes blocks, `read` reads and searches, `admin` does
    the rest (jobs, export, erasure). A running service knows the key at once.
    """
    for what, text in (("--project", project), ("--user", user), ("--name", name)):
        if text is not None:
            _check_name(what, text)
    key, text = run_async(
        _create(
            load_settings(data_dir=data_dir),
            [_permission(scope) for scope in scopes],
            project=project,
            user=user,
            name=name,
        )
    )
    if as_json:
        typer.echo(json.dumps({"key": text} | _facts(key), indent=2))
        return
    typer.echo(text)
    say_note("This is the only time the key is shown. Send it as: Authorization: Bearer <key>")


@examples("luma-memory keys list", "luma-memory keys list --project shop --json")
def keys_list(
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="Of this project only.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show every key there ever was, without the keys themselves."""
    keys = run_async(_list(load_settings(data_dir=data_dir), project))
    if as_json:
        typer.echo(json.dumps([_facts(key) for key in keys], indent=2))
    elif keys:
        console().print(_table(keys))
    else:
        say_note("no keys")


@examples("luma-memory keys revoke lmk_abcdefghijkl")
def keys_revoke(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="The key's beginning, as `keys list` shows it.")
    ],
    data_dir: DataDir = None,
) -> None:
    """End a key for good; every process refuses it within a minute."""
    key = run_async(_revoke(load_settings(data_dir=data_dir), prefix))
    console().print(f"revoked {key.prefix}: refused everywhere within a minute")


def _permission(scope: str) -> Permission:
    for permission in EVERY_PERMISSION:
        if permission == scope:
            return permission
    raise typer.BadParameter(f"{printable(scope)} is none of {', '.join(EVERY_PERMISSION)}")


def _check_name(what: str, text: str) -> None:
    if not text.strip() or not text.isprintable() or len(text) > NAME_CHARACTERS_MAX:
        raise Invalid(f"{what} must be 1 to {NAME_CHARACTERS_MAX} printable characters")


async def _create(
    settings: Settings,
    scopes: Sequence[Permission],
    *,
    project: str,
    user: str | None,
    name: str | None,
) -> tuple[ApiKey, str]:
    async with open_keys(settings) as keys:
        return await keys.create(scopes, project_id=project, user_id=user, name=name)


async def _list(settings: Settings, project: str | None) -> Sequence[ApiKey]:
    async with open_keys(settings) as keys:
        return await keys.list(project_id=project)


async def _revoke(settings: Settings, prefix: str) -> ApiKey:
    async with open_keys(settings) as keys:
        return await keys.revoke(prefix)


def _facts(key: ApiKey) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "project_id": key.project_id,
        "user_id": key.user_id,
        "scopes": sorted(key.permissions),
        "name": key.name,
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("key", "project", "user", "scopes", "name", "created", "last used", "revoked"):
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
    """Make, list and revoke API keys.

    Works on the database itself (DATABASE_URL or the data folder), also while the service is down.
    """,
    (keys_create, keys_list, keys_revoke),
    "luma-memory keys create --scope ingest --scope read",
    "luma-memory keys list",
    "luma-memory keys revoke lmk_abcdefghijkl",
)
