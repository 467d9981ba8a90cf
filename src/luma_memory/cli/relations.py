"""`relations`: a user's relations as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.options import Url, User, service_url
from luma_memory.cli.output import say_note
from luma_memory.cli.relation_graph import as_html, as_svg
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.relations import RelationBody
from luma_memory.settings import load_settings

BLOCKS_MAX = 5_000


@examples(
    "luma-memory relations graph --user ada --out graph.html",
    "luma-memory relations graph --user ada --out graph.svg --limit 60",
)
def relations_graph(
    user: User,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", dir_okay=False, help="graph.html or graph.svg."),
    ],
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, max=BLOCKS_MAX, help="Blocks at most."),
    ] = 200,
    url: Url = None,
) -> None:
    """Draw a user's blocks in order of time, with the relations between them.

    Blocks that have a relation come first, the newest of them; a block that a later one replaced is
    struck through. The file needs nothing else to be shown, and runs nothing.
    """
    draw = {".html": as_html, ".svg": as_svg}.get(out.suffix.lower())
    if draw is None:
        raise Invalid("--out must end in .html or .svg", code="picture_unknown")
    blocks, relations = run_async(_read(service_url(url, load_settings()), user, limit))
    out.write_text(draw(blocks, relations), encoding="utf-8")
    say_note(f"{len(blocks)} blocks and {len(relations)} relations in {out}")


app = command_group(
    "Look at how a user's blocks are related.",
    [relations_graph],
    "luma-memory relations graph --user ada --out graph.html",
)


async def _read(base_url: str, user: str, limit: int) -> tuple[list[BlockBody], list[RelationBody]]:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        blocks = await client.all_blocks(user, limit=BLOCKS_MAX)
        relations = await client.all_relations(user)
    related = {key for one in relations for key in (one.source_id, one.target_id)}
    blocks.sort(key=lambda block: (block.id not in related, -block.occurred_at.timestamp()))
    shown = blocks[:limit]
    ids = {block.id for block in shown}
    return shown, [one for one in relations if {one.source_id, one.target_id} <= ids]
