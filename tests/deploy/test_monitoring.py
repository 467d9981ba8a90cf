"""The dashboard and the alerts parse, and a live service exports every metric they use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import pytest_asyncio
import yaml
from tests.support.live import Live
from tests.support.load import client_of

from luma_memory.api.app import openapi_document

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
PAGE = ROOT / "docs" / "monitoring.md"
# Series that Prometheus itself adds to a scrape.
OF_THE_SCRAPE = {"up"}


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    assert set(loaded) == {"groups"}
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every expression by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in rules()}
    for panel in panels():
        found |= {f"panel {panel['title']} {t['refId']}": t["expr"] for t in panel["targets"]}
    adapter = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    found |= {f"adapter {n}": r["metricsQuery"] for n, r in enumerate(adapter["rules"]["external"])}
    return found


def selectors(expression: str) -> Iterator[Any]:
    """Every vector of an expression. Raises ValueError where it does not parse."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return (node for node in found if isinstance(node, promql_parser.VectorSelector))


@pytest.mark.parametrize(("where", "expression"), expressions().items())
def test_every_expression_parses(where: str, expression: str) -> None:
    assert list(selectors(expression))


def test_a_wrong_expression_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"."):
        list(selectors("sum(rate(luma_jobs[5m])"))


def test_every_alert_is_complete_and_describes_what_to_do() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 10
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert re.fullmatch(r"\d+[smhd]", rule["for"])
        assert set(rule["annotations"]) == {"summary"}
        assert f"`{rule['alert']}`" in page


TRIED = Path(__file__).with_name("alerts_test.yaml")


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    tests = yaml.safe_load(TRIED.read_text(encoding="utf-8"))["tests"]
    tried = [entry for test in tests for entry in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {entry["alertname"] for entry in tried if entry.get("exp_alerts")} == names
    assert {entry["alertname"] for entry in tried if not entry.get("exp_alerts")} == names


def test_prometheus_own_tool_agrees(tmp_path: Path) -> None:
    """Its configuration names a file with a key, which is not ours to have."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    folder = shutil.copytree(MONITORING, tmp_path / "monitoring")
    (folder / "luma-memory.key").write_text("a key")
    for command, subject, file in (
        ("check", "rules", MONITORING / "alerts.yaml"),
        ("check", "config", folder / "prometheus.yaml"),
        ("test", "rules", TRIED),
    ):
        arguments = [program, command, subject, str(file)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_service_that_is_gone_is_not_silent() -> None:
    """Its series are gone with it: `== 0` of nothing is nothing."""
    absent = re.findall(r"absent\((\w+)\)", " ".join(rule["expr"] for rule in rules()))
    assert absent == ["luma_database_up"]


def test_panels_stand_side_by_side() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@dataclass(frozen=True, slots=True)
class Exposed:
    """What an API and a worker expose: names of series, and routes with requests."""

    names: set[str]
    routes: set[str]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def exposed(live: Live) -> Exposed:
    question = {"user_id": "ada", "query": "Where is Ada?"}
    block = {"user_id": "ada", "content": "Ada is in Lisbon."}
    names: set[str] = set()
    routes: set[str] = set()
    async with client_of(live.stack) as client:
        for path, body in (("/blocks", block), ("/search", question), ("/context", question)):
            (await client.post(path, json=body)).raise_for_status()
        for page in ("/metrics", f"http://127.0.0.1:{live.worker_port}/metrics"):
            text = (await client.get(page)).raise_for_status().text
            routes |= set(re.findall(r'route="([^"]+)"', text))
            for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", text, re.MULTILINE):
                parts = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
                names |= {name + part for part in parts}
    return Exposed(names, routes)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("where", "expression"), expressions().items())
async def test_every_metric_is_exposed_by_a_live_service(
    where: str, expression: str, exposed: Exposed
) -> None:
    for vector in selectors(expression):
        assert vector.name in exposed.names | OF_THE_SCRAPE
        expected = [m.value for m in vector.matchers.matchers if m.name == "route"]
        assert all(any(re.fullmatch(w, route) for route in exposed.routes) for w in expected)


def test_the_scrape_configuration_uses_the_metrics_routes() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
    paths = {job["job_name"]: job["metrics_path"] for job in config["scrape_configs"]}
    assert paths["luma-memory-api"] in openapi_document()["paths"]
    assert paths["luma-memory-worker"] == "/metrics"
    assert all((MONITORING / name).exists() for name in config["rule_files"])
    jobs_of_alerts = set(re.findall(r'job="([^"]+)"', " ".join(expressions().values())))
    assert jobs_of_alerts <= set(paths)
