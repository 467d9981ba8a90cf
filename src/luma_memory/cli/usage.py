"""`usage`: the use of model providers, read from the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from luma_memory.bootstrap.operators import open_accounts
from luma_memory.cli.backfill import backfill_line
from luma_memory.cli.commands import examples
from luma_memory.cli.jobs_options import AsJson, OfUser, Project
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, plain, print_note
from luma_memory.cli.running import run_async
from luma_memory.domain.usage import UsageFilter
from luma_memory.protocol.usage import SpentBody, UsageBody
from luma_memory.settings import Settings, load_settings

DAYS_MAX = 3_660
_NUMBERS = ("calls", "input tokens", "output tokens", "cost", "blocks", "per block")


@examples("luma-memory usage", "luma-memory usage --user ada --days 7 --json")
def usage(
    user: OfUser = None,
    project: Project = None,
    days: Annotated[
        int,
        typer.Option(
            "--days", metavar="N", min=1, max=DAYS_MAX, help="Number of days up to today (UTC)."
        ),
    ] = 30,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show calls, tokens and estimated cost by day, operation and model.

    Local enrichment and local embeddings are free and not counted.
    """
    settings = load_settings(data_dir=data_dir)
    report = run_async(_report(settings, project, user, days))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    _show(report)


async def _report(
    settings: Settings, project: str | None, user: str | None, days: int
) -> UsageBody:
    until = datetime.now(UTC).date()
    since = until - timedelta(days=days - 1)
    which = UsageFilter(project_id=project, user_id=user, since=since, until=until)
    async with open_accounts(settings) as (reports, backfill):
        report = await reports.report(which)
        pending = await backfill.pending_counts(project_id=project, user_id=user)
    return UsageBody.of(report, pending, since=since, until=until)


def _show(report: UsageBody) -> None:
    if report.lines:
        table = Table("day", "operation", "model", *_NUMBERS)
        for line in report.lines:
            cells = (str(line.day), line.operation, line.model)
            table.add_row(*map(plain, (*cells, *_numbers(line))))
        table.add_section()
        table.add_row("total", "", "", *_numbers(report.total))
        console().print(table)
    else:
        print_note(f"no calls of model providers since {report.since}")
    for operation in report.operations:
        if operation.cost_per_block_usd is not None and operation.old_cost_per_block_usd:
            print_note(
                f"{operation.operation}: {_usd(operation.cost_per_block_usd)} per block;"
                f" the synchronous design was estimated at {_usd(operation.old_cost_per_block_usd)}"
            )
    print_note(f"prices: {report.prices.source}, dated {report.prices.dated or 'unknown'}")
    if report.unpriced_models:
        print_note(f"models without a known price: {', '.join(report.unpriced_models)}")
    if any(report.owed.model_dump().values()):
        print_note(f"pending backfills: {backfill_line(report.owed)} (`luma-memory backfill`)")


def _numbers(spent: SpentBody) -> tuple[str, ...]:
    return (
        f"{spent.calls:,}",
        f"{spent.input_tokens:,}",
        f"{spent.output_tokens:,}",
        _usd(spent.cost_usd),
        f"{spent.blocks:,}",
        "" if spent.cost_per_block_usd is None else _usd(spent.cost_per_block_usd),
    )


def _usd(amount: object) -> str:
    return f"${float(str(amount)):.6f}"
