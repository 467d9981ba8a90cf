"""`backfill`: enrich and embed blocks that were stored without one of these steps."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_accounts
from luma_memory.cli.commands import examples
from luma_memory.cli.jobs_options import AsJson, OfUser, Project
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import print_note
from luma_memory.cli.running import run_async
from luma_memory.protocol.usage import PendingBackfillBody
from luma_memory.settings import Settings, load_settings


@examples("luma-memory backfill --dry-run", "luma-memory backfill --user ada")
def backfill(
    user: OfUser = None,
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Have workers enrich and embed active blocks that lack either, after all other jobs.

    A step is missing after a provider failed or refused the key, the account or the text, and for
    blocks stored while MEMORY_ENRICHMENT_ENABLED or MEMORY_EMBEDDING_ENABLED was false. The workers
    must have the step enabled; blocks whose step is disabled stay pending.
    """
    pending = run_async(_backfill(load_settings(data_dir=data_dir), project, user, dry_run))
    if as_json:
        typer.echo(pending.model_dump_json())
    else:
        print_note(backfill_line(pending))


def backfill_line(pending: PendingBackfillBody) -> str:
    """The number of blocks by when their backfill runs."""
    return f"{pending.due:,} due, {pending.later:,} later, {pending.asked:,} on request"


async def _backfill(
    settings: Settings, project: str | None, user: str | None, dry_run: bool
) -> PendingBackfillBody:
    async with open_accounts(settings) as (_, backfill):
        if not dry_run:
            await backfill.request(project_id=project, user_id=user)
        return PendingBackfillBody.of(
            await backfill.pending_counts(project_id=project, user_id=user)
        )
