"""`relations`: draw a user's relations; detect those of older blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_relation_backlog
from luma_memory.bootstrap.parts import detects_relations
from luma_memory.bootstrap.private_files import write_private_text
from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.jobs_options import OfUser, Project
from luma_memory.cli.options import DataDir, Url, User, service_url
from luma_memory.cli.output import print_note, progress
from luma_memory.cli.relation_graph import as_html, as_svg
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.relations import RelationBody
from luma_memory.settings import Settings, load_settings

BLOCKS_MAX = 5_000
PAGE_ENTRIES = 200


@examples(
    "luma-memory relations graph --user ada --out graph.html",
    "luma-memory relations graph --user ada --out graph.svg --limit 60",
)
def relations_graph(
    user: User,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", dir_okay=False, help="The file to write: .html or .svg."
        ),
    ],
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, max=BLOCKS_MAX, help="Maximum number of blocks."
        ),
    ] = 200,
    url: Url = None,
) -> None:
    """Draw a user's blocks along a time axis, with the relations between them.

    --limit prefers blocks with relations, then newer ones. Superseded blocks are struck through.
    The file is self-contained and has no script.
    """
    draw = {".html": as_html, ".svg": as_svg}.get(out.suffix.lower())
    if draw is None:
        raise Invalid("--out must end in .html or .svg", code="picture_unknown")
    blocks, relations = run_async(_read(service_url(url, load_settings()), user, limit))
    write_private_text(out, draw(blocks, relations))
    print_note(f"{len(blocks)} blocks and {len(relations)} relations in {out}")


@examples(
    "luma-memory relations detect --dry-run",
    "luma-memory relations detect --user ada",
)
def relations_detect(
    user: OfUser = None,
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, change nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Detect relations of blocks that were stored while MEMORY_RELATIONS_ENABLED was false.

    Enqueues a job for each active block that never had one, with a lower priority than new blocks.
    Workers need MEMORY_RELATIONS_ENABLED=true. MEMORY_RELATION_DETECTION_RATE_LIMIT applies: by
    default five blocks per user and hour. Idempotent.
    """
    settings = load_settings(data_dir=data_dir)
    if not (dry_run or detects_relations(settings)):
        print_note("relations are disabled here: their jobs wait until workers have them enabled")
    count = run_async(_enqueue(settings, project, user, dry_run=dry_run))
    typer.echo(f"{count:,} blocks to check" if dry_run else f"enqueued {count:,} jobs")


app = command_group(
    "Draw and detect relations between blocks.",
    [relations_graph, relations_detect],
    "luma-memory relations graph --user ada --out graph.html",
)


async def _enqueue(
    settings: Settings, project: str | None, user: str | None, *, dry_run: bool
) -> int:
    count = 0
    async with open_relation_backlog(settings) as backlog:
        with progress("enqueued", None) as bar:
            async for more in backlog.enqueue(project_id=project, user_id=user, is_trial=dry_run):
                count += more
                bar.show(count)
    return count


async def _read(base_url: str, user: str, limit: int) -> tuple[list[BlockBody], list[RelationBody]]:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        blocks = await client.all_blocks(user, limit=BLOCKS_MAX)
        relations = [one async for one in client.iterate_relations(user, page_size=PAGE_ENTRIES)]
    related = {key for one in relations for key in (one.source_id, one.target_id)}
    blocks.sort(key=lambda block: (block.id not in related, -block.occurred_at.timestamp()))
    shown = blocks[:limit]
    ids = {block.id for block in shown}
    return shown, [one for one in relations if {one.source_id, one.target_id} <= ids]
