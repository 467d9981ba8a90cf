"""`summarize`: summarize a user's week now."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.cli.commands import examples
from luma_memory.cli.jobs_options import AsJson
from luma_memory.cli.options import Url, User, service_url
from luma_memory.cli.output import print_note, printable
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.protocol.summaries import SummaryBody
from luma_memory.settings import load_settings


@examples(
    "luma-memory summarize --user ada",
    "luma-memory summarize --user ada --week 2026-W10 --json",
)
def summarize(
    user: User,
    week: Annotated[
        str | None,
        typer.Option(
            "--week",
            metavar="WEEK",
            help="An ISO week (2026-W10) or one of its days; defaults to the last full week.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Summarize a user's week now, in the user's time zone, and store the summary."""
    summary = run_async(_summarize(service_url(url, load_settings()), user, week))
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    typer.echo(printable(summary.text))
    if summary.comparison:
        typer.echo(printable(summary.comparison))
    print_note(
        f"{summary.week} ({summary.time_zone}) · {len(summary.highlights)} highlights from"
        f" {len(summary.block_ids)} blocks · {summary.model}"
    )


async def _summarize(base_url: str, user: str, week: str | None) -> SummaryBody:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        return await client.make_summary(user, week=week)
