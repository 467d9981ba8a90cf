"""`partitions`: create and list the partitions of an installation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.bootstrap.partitions import (
    PartitionMigration,
    PartitionReport,
    open_partitions,
)
from luma_memory.cli.adoption import partitions_adopt
from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, plain, print_error, print_note
from luma_memory.cli.partition_moves import partitions_move
from luma_memory.cli.running import run_async
from luma_memory.domain.partition import PARTITIONS_MAX
from luma_memory.settings import Settings, load_settings

_MIB = 1 << 20


@examples(
    "luma-memory partitions create --count 64",
    "luma-memory partitions create --count 64 --distribute   on the nodes of a Citus cluster",
)
def partitions_create(
    count: Annotated[
        int,
        typer.Option(
            "--count",
            metavar="N",
            min=2,
            max=PARTITIONS_MAX,
            help="How many in all, the home partition included. Cannot be changed later.",
        ),
    ],
    schema_prefix: Annotated[
        str,
        typer.Option(
            "--schema-prefix", metavar="PREFIX", help="Schemas get this name and their number."
        ),
    ] = "luma_p",
    distribute: Annotated[
        bool,
        typer.Option(
            "--distribute",
            help="Let Citus place each on a node of its cluster; DATABASE_URL is the coordinator.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Create partitions: for each a schema with all tables and functions, in the same database.

    Users of an installation that has none yet are then spread over them: restart its API and worker
    processes. Where there are users, the partitions are only prepared. An interrupted command
    continues when it is repeated.
    """
    settings = load_settings(data_dir=data_dir)
    done, is_spread = run_async(_create(settings, count, schema_prefix, distribute=distribute))
    print_migrations(done)
    print_note(
        f"New users are spread over {len(done) + 1} partitions: restart the API and the workers."
        if is_spread
        else "This installation has users: they stay in the home partition, and so do new ones,"
        " until luma-memory partitions adopt moves them."
    )


@examples("luma-memory partitions list", "luma-memory partitions list --json")
def partitions_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List all partitions with their rows, bytes and oldest waiting job.

    Exits with 1 if one cannot be examined. Rows are those of the last analysis by PostgreSQL.
    """
    reports = run_async(_reports(load_settings(data_dir=data_dir)))
    if as_json:
        typer.echo(json.dumps([_facts(report) for report in reports], indent=2))
    elif reports:
        console().print(_table(reports))
    else:
        console().print("There is one partition, the home partition.")
    if any(report.error is not None for report in reports):
        raise typer.Exit(1)


def print_migrations(done: Sequence[PartitionMigration]) -> None:
    """One line for each outcome. Raises Exit with code 1 if a partition failed."""
    for one in done:
        name = f"partition {one.partition.number} ({one.partition.schema})"
        if one.error is not None:
            print_error(f"{name}: {one.error}")
        elif one.report is not None:
            applied = len(one.report.applied)
            result = f"{applied} migrations applied" if applied else "already current"
            console().print(f"{name}: {result}")
    if any(one.error is not None for one in done):
        raise typer.Exit(1)


async def _create(
    settings: Settings, count: int, prefix: str, *, distribute: bool
) -> tuple[Sequence[PartitionMigration], bool]:
    async with open_partitions(settings) as partitions:
        done = await partitions.create(count, prefix, distribute=distribute)
        return done, await partitions.is_spread()


async def _reports(settings: Settings) -> Sequence[PartitionReport]:
    async with open_partitions(settings) as partitions:
        return await partitions.reports()


def _facts(report: PartitionReport) -> dict[str, object]:
    partition, facts = report.partition, report.facts
    return {
        "number": partition.number,
        "schema": partition.schema,
        # Never the address itself, which may hold a password.
        "own_address": partition.dsn is not None,
        "node": report.node,
        "state": partition.state,
        "move": report.move
        and {
            "to_schema": report.move.schema,
            "phase": report.move.phase,
            "rows": report.move.rows,
            "bytes": report.move.bytes,
            "rounds": report.move.rounds,
        },
        "schema_current": facts and facts.schema_current,
        "rows": facts and facts.rows,
        "bytes": facts and facts.bytes,
        "users_leaving": facts and facts.users_leaving,
        "oldest_pending_seconds": facts and facts.oldest_pending_seconds,
        "error": report.error,
    }


def _table(reports: Sequence[PartitionReport]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    has_nodes = any(one.node is not None for one in reports)
    columns = ("partition", "schema", *(["node"] if has_nodes else []), "state", "rows", "MiB")
    for column in (*columns, "oldest job", "remark"):
        is_text = column in {"schema", "node", "remark"}
        table.add_column(column, justify="left" if is_text else "right")
    for report in reports:
        facts = report.facts
        problem = report.error or ""
        if facts is not None and not facts.schema_current:
            problem = "its schema is not current: run luma-memory migrate"
        if report.move is not None and not problem:
            problem = (
                f"is moved to {report.move.schema}: {report.move.phase}, {report.move.rows} rows"
            )
        if facts is not None and facts.users_leaving and not problem:
            problem = f"{facts.users_leaving} users are still to be moved"
        oldest = facts.oldest_pending_seconds if facts is not None else None
        table.add_row(
            str(report.partition.number),
            plain(report.partition.schema),
            *([plain(report.node or "")] if has_nodes else []),
            report.partition.state,
            "" if facts is None else str(facts.rows),
            "" if facts is None else f"{facts.bytes / _MIB:.1f}",
            "" if oldest is None else f"{oldest:.0f} s",
            plain(problem),
        )
    return table


partitions = command_group(
    "Create partitions for more users than one database can hold, list and move them.",
    (partitions_create, partitions_list, partitions_move, partitions_adopt),
    "luma-memory partitions create --count 64",
    "luma-memory partitions list",
    "luma-memory partitions move 3 --to postgresql://memory@second.internal/memory",
    "luma-memory partitions move 3 --to second.internal:5432   to a node of a Citus cluster",
    "luma-memory partitions adopt --count 8",
)
