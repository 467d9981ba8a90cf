"""`rollout`: check the criteria of a rollout phase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.options import Url, service_url
from luma_memory.cli.output import console, plain, print_note
from luma_memory.cli.rollout_criteria import ACCEPT_MS, HIT_MS, JOB_SECONDS_MAX, Criterion, Limits
from luma_memory.cli.rollout_probe import check_phase
from luma_memory.cli.running import run_async
from luma_memory.settings import load_settings

PHASES = "asynchronous ingest", "caching", "relations", "production"
_STYLES = {"pass": "green", "fail": "bold red", "not judged": "yellow"}


@examples(
    "luma-memory rollout check --phase 1",
    "luma-memory rollout check --phase 2 --early   within the first 24 hours",
    "MEMORY_API_KEY=lmk_… luma-memory rollout check --phase 4 --url https://memory.example.com",
)
def rollout_check(
    phase: Annotated[
        int,
        typer.Option(
            "--phase", metavar="1..4", min=1, max=4, help="Each phase includes the earlier ones."
        ),
    ],
    url: Url = None,
    early: Annotated[
        bool, typer.Option("--early", help="Show the hit rate of 24 hours without judging it.")
    ] = False,
    accept_ms: Annotated[
        float, typer.Option("--accept-ms", metavar="MS", min=1, help="Maximum accept latency, p95.")
    ] = ACCEPT_MS,
    hit_ms: Annotated[
        float,
        typer.Option(
            "--hit-ms", metavar="MS", min=1, help="Maximum latency of a cached context, p95."
        ),
    ] = HIT_MS,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="Wait this long for the probe's blocks."
        ),
    ] = JOB_SECONDS_MAX,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a running service against the criteria of a phase; exits with 1 if one fails.

    Phases: 1 asynchronous ingest, 2 caching, 3 relations, 4 production. Stores a few blocks for a
    user of its own, queries them and erases the user again, so the key needs all permissions.
    Latencies include the network between this machine and the service.
    """
    settings = load_settings()
    limits = Limits(
        accept_ms=accept_ms,
        hit_ms=hit_ms,
        judge_hit_rate=not early,
        enriched_seconds=wait,
        relations_per_hour=settings.relation_detection_rate_limit,
    )
    address = service_url(url, settings)
    criteria = run_async(check_phase(phase, address, settings.client_key, limits))
    if as_json:
        typer.echo(json.dumps(_facts(phase, criteria), indent=2, ensure_ascii=False))
    else:
        console().print(_table(criteria))
        failed = sum(criterion.verdict == "fail" for criterion in criteria)
        result = f"{failed} of {len(criteria)} criteria fail" if failed else "passed"
        print_note(f"phase {phase} ({PHASES[phase - 1]}): {result}")
    if any(criterion.verdict == "fail" for criterion in criteria):
        raise typer.Exit(1)


app = command_group(
    "Check a rollout in four phases by measured criteria.",
    [rollout_check],
    "luma-memory rollout check --phase 1",
)


def _facts(phase: int, criteria: Sequence[Criterion]) -> dict[str, Any]:
    passed = all(criterion.verdict != "fail" for criterion in criteria)
    return {
        "phase": phase,
        "passed": passed,
        "criteria": [_criterion_facts(criterion) for criterion in criteria],
    }


def _criterion_facts(criterion: Criterion) -> dict[str, Any]:
    return {
        "name": criterion.name,
        "verdict": criterion.verdict,
        "wanted": criterion.expected,  # the names in the output are a contract
        "found": criterion.measured,
        "fix": criterion.fix,
    }


def _table(criteria: Sequence[Criterion]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("criterion", "expected", "measured", "fix"):
        table.add_column(name, overflow="fold")
    for criterion in criteria:
        table.add_row(
            Text(criterion.verdict, style=_STYLES[criterion.verdict]),
            criterion.name,
            criterion.expected,
            plain(criterion.measured),
            "" if criterion.verdict == "pass" else criterion.fix,
        )
    return table
