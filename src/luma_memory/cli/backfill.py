"""`backfill`: make what was left out while a provider was away or a step was switched off."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_accounts
from luma_memory.cli.commands import examples
from luma_memory.cli.jobs_options import AsJson, OfUser, Project
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import say_note
from luma_memory.cli.running import run_async
from luma_memory.protocol.usage import PendingBackfillBody
from luma_memory.settings import Settings, load_settings


@examples("luma-memory backfill --dry-run", "luma-memory backfill --user ada")
def backfill(
    user: OfUser = None,
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, change nothing.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Have workers make what active blocks lack, behind all other work.

    That is what a provider could not make while it was away, and what was left out while
    MEMORY_ENRICHMENT_ENABLED or MEMORY_EMBEDDING_ENABLED was false. Workers need the step switched
    on again; blocks whose step is still off go on waiting.
    """
    owed = run_async(_backfill(load_settings(data_dir=data_dir), project, user, dry_run))
    if as_json:
        typer.echo(owed.model_dump_json())
    else:
        say_note(
            f"{owed.due:,} in work, {owed.later:,} to be tried again, {owed.asked:,} when asked for"
        )


async def _backfill(
    settings: Settings, project: str | None, user: str | None, dry_run: bool
) -> PendingBackfillBody:
    async with open_accounts(settings) as (_, backfill):
        if not dry_run:
            await backfill.request(project_id=project, user_id=user)
        return PendingBackfillBody.of(
            await backfill.pending_counts(project_id=project, user_id=user)
        )
