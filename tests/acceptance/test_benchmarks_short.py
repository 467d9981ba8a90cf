"""`make bench` in its short form: every line is there and was earned; speed is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.short_bench, pytest.mark.timeout(700)]
ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS_MAX = 600  # on an idle machine it takes some 60; five workers start and stop
# Each promise of the service, and what its ratio has to be.
PROMISES = {
    "accept_p50_one_client": "≤ 3",
    "accept_p99_busy_worker": "≤ 1",
    "accept_rate_64_clients": "≥ 0.5",
    "worker_rate_128_jobs": "≥ 0.8",
    "pickup_p99": "≤ 1",
    "search_p50": "≤ 2",
    "parts_search_p50": "≤ 1.05",
    "parts_worker_rate": "≥ 0.95",
    "context_cached_p50": "≤ 3",
    "context_memory_1000_users": "≤ 1",
    "hanging_redis_accept_p99": "≤ 1",
    "hanging_redis_search_p99": "≤ 1",
    "hanging_redis_context_p99": "≤ 1",
    "mcp_search_2026-07-28": "≤ 1.3",
    "mcp_stdio_cold_list": "≤ 1",
    "hook_prompt_p95": "≤ 1",
}


@dataclass(frozen=True)
class Run:
    printed: str
    report: dict[str, Any]
    rests: list[str]  # in the folder of the temporary database

    @property
    def lines(self) -> dict[str, dict[str, Any]]:
        return {line["key"]: line for line in self.report["lines"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for all tests of this file."""
    folder = tmp_path_factory.mktemp("bench")
    data, report = folder / "data dir", folder / "report.json"
    data.mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--json", report, "--data-dir", data],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    rests = [path.name for path in data.iterdir()]
    return Run(process.stdout, json.loads(report.read_text()), rests)


def test_every_promise_is_measured_against_a_limit(run: Run) -> None:
    assert {key: run.lines[key]["target"] for key in PROMISES} == PROMISES
    for key in PROMISES:
        line = run.lines[key]
        assert line["value"] > 0
        assert line["limit"] > 0
        assert line["limit_name"]
        assert line["verdict"] in ("ok", "miss")


def test_ratios_are_those_of_their_value_and_limit(run: Run) -> None:
    for key in ("accept_p99_busy_worker", "pickup_p99"):
        line = run.lines[key]
        assert line["ratio"] == pytest.approx(line["value"] / line["limit"])
    for key in PROMISES:
        line = run.lines[key]
        kept = (
            line["ratio"] <= float(line["target"][2:])
            if line["target"].startswith("≤")
            else line["ratio"] >= float(line["target"][2:])
        )
        assert (line["verdict"] == "ok") is kept


def test_statements_are_shared_by_clients_that_come_at_once(run: Run) -> None:
    # The service's own doing, not a matter of speed: 64 clients, one statement at a time.
    assert run.lines["accept_blocks_per_statement"]["value"] > 2


def test_the_table_names_every_line(run: Run) -> None:
    shown = " ".join(run.printed.split())
    for line in run.report["lines"]:
        assert line["what"].split(",")[0].strip() in shown


def test_nothing_is_left_behind(run: Run) -> None:
    assert run.rests == []


def test_the_report_names_the_machine_it_was_measured_on(run: Run) -> None:
    assert run.report["short"] is True
    assert run.report["machine"]["cores"] >= 1
    assert run.report["seconds"] > 0
