"""`doctor`: find problems of this installation and suggest fixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from luma_memory.cli import checks
from luma_memory.cli.checks import Finding, Verdict
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, plain
from luma_memory.cli.running import run_async
from luma_memory.domain.errors import SetupError
from luma_memory.settings import Settings, load_settings

_STYLES: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@examples("luma-memory doctor", "luma-memory doctor --online   also call the model provider once")
def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also call the model provider, at a small cost.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Check every dependency and setting, and suggest a fix for each problem.

    Exits with 1 if a check fails. Secrets are never shown.
    """
    findings = [*checks.check_python(), *checks.check_packages()]
    try:
        settings = load_settings(data_dir=data_dir)
    except SetupError as error:
        fix = "correct it; checks that depend on settings were skipped"
        findings.append(Finding("settings", "fail", str(error), fix))
    else:
        findings += run_async(_check(settings, online=online))
    findings += checks.check_unknown_settings()
    console().print(_table(findings))
    if checks.worst(findings) == "fail":
        raise typer.Exit(1)


async def _check(settings: Settings, *, online: bool) -> list[Finding]:
    """The checks that depend on settings."""
    model = checks.check_model(settings)
    return [
        Finding("settings", "ok", "all values are valid"),
        *checks.check_data_dir(settings),
        *await checks.check_database(settings),
        *await checks.check_cache(settings),
        *model,
        # A damaged model would only fail again.
        *(
            []
            if checks.worst(model) == "fail"
            else await checks.check_providers(settings, online=online)
        ),
        *await checks.check_service(settings),
    ]


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("checked", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("fix", overflow="fold")
    for finding in findings:
        verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
        table.add_row(verdict, finding.subject, plain(finding.detail), plain(finding.fix))
    return table
