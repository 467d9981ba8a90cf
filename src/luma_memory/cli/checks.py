"""The checks of `doctor`. Each reports a finding and a fix; none shows a secret."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from luma_memory.bootstrap.checks import (
    NOT_A_REPLICA,
    cache_facts,
    check_local_model,
    database_facts,
    partition_reports,
    replica_facts,
    try_providers,
)
from luma_memory.bootstrap.database import data_dir, database_address
from luma_memory.bootstrap.partitions import PartitionReport
from luma_memory.cli.options import service_url
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.database_facts import POSTGRES_MAJOR_MIN, DatabaseFacts
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.partition import ACTIVE_STATES
from luma_memory.settings import Settings, unknown_variables

Verdict = Literal["ok", "warn", "fail"]
PYTHON_MIN = (3, 11)
FREE_BYTES_RECOMMENDED = 1 << 30
FREE_BYTES_MIN = 200 << 20
SAMPLE_TEXT = "Ada moved to Lisbon in March 2026."
_DISTRIBUTION = "luma-memory"
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?(?:>=([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    verdict: Verdict
    detail: str
    fix: str = ""


def check_python() -> list[Finding]:
    """The version of the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON_MIN:
        return [Finding("Python", "ok", version)]
    return [Finding("Python", "fail", version, "install Python 3.11 or newer, run make setup")]


def check_packages() -> list[Finding]:
    """The dependencies that the installed package declares."""
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [
            Finding(
                "packages",
                "warn",
                "running from source: versions are not checked",
                "run make setup",
            )
        ]
    # The commands are part of the server; the other extras are optional.
    required = [line for line in requirements if "extra ==" not in line or _is_of_server(line)]
    bad = [problem for line in required if (problem := package_problem(line)) is not None]
    if bad:
        return [Finding("packages", "fail", "; ".join(bad), "run make setup")]
    return [Finding("packages", "ok", f"{len(required)} as required")]


def _is_of_server(requirement: str) -> bool:
    return re.search(r"""extra == ['"]server['"]""", requirement) is not None


def package_problem(requirement: str) -> str | None:
    """The problem with an installed package, given a requirement such as `rich>=14`, or None."""
    match = _REQUIREMENT.match(requirement)
    assert match is not None
    name, least = match.group(1), match.group(2)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    if least and version_numbers(found) < version_numbers(least):
        return f"{name} {found} is older than {least}"
    return None


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at the end: 1.20.0rc1 is (1, 20)."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        numbers.append(int(digits.group()))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def check_unknown_settings(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """MEMORY_* variables that no setting uses."""
    return [
        Finding(
            "settings",
            "warn",
            f"{name} is not a setting",
            f"did you mean {nearest}?" if nearest else "remove it if it was meant for this service",
        )
        for name, nearest in unknown_variables(environment).items()
    ]


def check_data_dir(settings: Settings) -> list[Finding]:
    """The data directory of the embedded database."""
    if settings.database_url is not None:
        return []
    folder = data_dir(settings)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [
            Finding(
                "data folder",
                "fail",
                f"{folder} cannot be written",
                "set MEMORY_DATA_DIR or --data-dir to a writable directory",
            )
        ]
    free_bytes = shutil.disk_usage(existing).free
    detail = f"{folder}, {free_bytes / (1 << 30):.1f} GiB free"
    if free_bytes >= FREE_BYTES_RECOMMENDED:
        return [Finding("data folder", "ok", detail)]
    verdict: Verdict = "fail" if free_bytes < FREE_BYTES_MIN else "warn"
    return [Finding("data folder", verdict, detail, "free disk space")]


async def check_database(settings: Settings) -> list[Finding]:
    """The database is reachable, recent enough, and has pgvector and the schema."""
    if settings.database_url is None and not has_cluster(data_dir(settings)):
        return [Finding("database", "ok", "embedded; created by the first start")]
    try:
        async with database_address(settings) as dsn:
            facts = await database_facts(dsn)
            reports = await partition_reports(dsn) if facts.schema_current else []
            replica = await _replica_findings(dsn, settings)
    except LumaMemoryError as error:
        fix = "check DATABASE_URL and that the server is running" if settings.database_url else ""
        return [Finding("database", "fail", str(error), fix)]
    return [*database_findings(facts), *partition_findings(reports), *replica]


async def _replica_findings(dsn: str, settings: Settings) -> list[Finding]:
    """A replica that is away or not in order is no failure: the primary serves all reads. One of
    another database is, because no process starts with it."""
    if settings.database_read_url is None:
        return []
    try:
        facts = await replica_facts(dsn, settings)
    except LumaMemoryError as error:
        verdict: Verdict = "fail" if error.code == NOT_A_REPLICA else "warn"
        fix = "correct or remove MEMORY_DATABASE_READ_URL"
        return [Finding("replica", verdict, str(error), fix)]
    since = "" if facts.since_replay is None else f", last change {facts.since_replay:.1f} s ago"
    return [Finding("replica", "ok", f"a standby of this database{since}")]


def partition_findings(reports: Sequence[PartitionReport]) -> list[Finding]:
    """One line for each partition with a problem, or one for all. None without partitions."""
    findings = []
    for report in reports:
        subject = f"partition {report.partition.number}"
        on_node = f" on {report.node}" if report.node else ""
        schema = f"{report.partition.schema}{on_node}"
        # Those that are only prepared have no users whom a problem affects.
        verdict: Verdict = "fail" if report.partition.state in ACTIVE_STATES else "warn"
        if report.error is not None:
            fix = "check its server and its schema; luma-memory partitions list shows all"
            findings.append(Finding(subject, verdict, f"{schema}: {report.error}", fix))
        elif report.facts is not None and not report.facts.schema_current:
            fix = "run luma-memory migrate"
            findings.append(Finding(subject, verdict, f"{schema}: not current", fix))
        elif report.partition.state == "paused" or report.move is not None:
            found = "writes are paused" if report.partition.state == "paused" else "it is moved"
            fix = (
                "if no luma-memory partitions move runs: repeat that command, or run luma-memory"
                f" partitions move {report.partition.number} --undo"
            )
            findings.append(Finding(subject, "warn", f"{schema}: {found}", fix))
    if reports and not findings:
        placed = sorted({report.node for report in reports if report.node})
        on_nodes = f", on the nodes {', '.join(placed)}" if placed else ""
        found = f"{len(reports)} respond, their schemas are current{on_nodes}"
        return [Finding("partitions", "ok", found)]
    return findings


def database_findings(facts: DatabaseFacts) -> list[Finding]:
    """The verdicts on a database that responds."""
    return [_server_finding(facts), _pgvector_finding(facts), _schema_finding(facts)]


def _server_finding(facts: DatabaseFacts) -> Finding:
    version = f"PostgreSQL {facts.version}"
    if not facts.is_recent:
        fix = f"use PostgreSQL {POSTGRES_MAJOR_MIN} or newer"
        return Finding("database", "fail", version, fix)
    if not facts.is_utf8:
        fix = "create the database with ENCODING 'UTF8' TEMPLATE template0"
        return Finding("database", "fail", f"{version}, encoding {facts.encoding}", fix)
    return Finding("database", "ok", version)


def _pgvector_finding(facts: DatabaseFacts) -> Finding:
    if not facts.has_pgvector:
        return Finding(
            "pgvector",
            "fail",
            facts.pgvector or "not installed on the server",
            "install pgvector 0.8 or newer, or ALTER EXTENSION vector UPDATE",
        )
    if not facts.may_have_pgvector:
        detail = f"{facts.pgvector} is available, but this user may not create the extension"
        fix = "run CREATE EXTENSION vector; in this database as a superuser or its administrator"
        return Finding("pgvector", "fail", detail, fix)
    return Finding("pgvector", "ok", f"{facts.pgvector}")


def _schema_finding(facts: DatabaseFacts) -> Finding:
    if facts.schema_current:
        return Finding("schema", "ok", "current")
    if facts.schema is None:
        fix = "create the schema, or correct the search_path of the user"
        return Finding("schema", "fail", "no schema of the search_path exists", fix)
    if not facts.may_create_tables:
        detail = f"not current, and this user may not create tables in {facts.schema}"
        fix = "run luma-memory migrate as the owner of the schema, or GRANT CREATE ON SCHEMA"
        return Finding("schema", "fail", detail, fix)
    return Finding("schema", "fail", "not current", "run luma-memory migrate")


async def check_cache(settings: Settings) -> list[Finding]:
    """Redis, if configured. The service works without it, so this never fails."""
    if settings.redis_url is None:
        return [Finding("cache", "ok", "in the API process; set REDIS_URL to share it")]
    facts = await cache_facts(settings)
    if not facts.connected:
        fix = "check REDIS_URL and that Redis is running; until then nothing is shared"
        return [Finding("cache", "warn", "Redis does not respond", fix)]
    return [Finding("cache", "ok", f"Redis responds, {facts.keys_count} keys")]


def has_cluster(folder: Path) -> bool:
    """Whether the directory holds an embedded database; the check must not create one."""
    try:
        return (folder / "postgres").exists()
    except OSError:
        return True  # the server reports the problem


def check_model(settings: Settings) -> list[Finding]:
    """The files of the local model and their digests."""
    if settings.has_model_provider or not settings.embedding_enabled:
        return []
    try:
        return [Finding("local model", "ok", f"complete: {check_local_model(settings)}")]
    except LumaMemoryError as error:
        return [Finding("local model", "fail", str(error), "run make setup")]


async def check_providers(settings: Settings, *, online: bool) -> list[Finding]:
    """Call the local provider; call a model provider only with --online, because that costs."""
    if settings.has_model_provider and not online:
        return [
            Finding(
                "model provider",
                "ok",
                f"{settings.completion_model}, {settings.embedding_model}; not called",
                "call it with --online",
            )
        ]
    subject = "model provider" if settings.has_model_provider else "local provider"
    try:
        names = await try_providers(settings, SAMPLE_TEXT)
    except LumaMemoryError as error:
        fix = "check OPENAI_API_KEY, OPENAI_BASE_URL and the models" if online else "make setup"
        return [Finding(subject, "fail", str(error), fix)]
    detail = "; ".join(f"{name}: {value}" for name, value in names.items())
    return [Finding(subject, "ok", detail or "disabled")]


async def check_service(settings: Settings) -> list[Finding]:
    """Whether the port is free, or used by a healthy service."""
    if port_is_free(settings.host, settings.port):
        return [Finding("port", "ok", f"{settings.host}:{settings.port} is free")]
    url = service_url(None, settings)
    other_port = "choose another with MEMORY_PORT or --port"
    try:
        async with ServiceClient(url, api_key=settings.client_key) as client:
            health = await client.health()
    except LumaMemoryError as error:
        return [Finding("port", "fail", f"{url} is in use: {error}", other_port)]
    verdict: Verdict = "ok" if health.status == "ok" else "warn"
    detail = f"{url} responds: {health.status}, workers: {health.workers}"
    stats = health.queue_stats
    if stats is not None:
        detail += f", {stats.pending} jobs pending, {stats.failed} failed"
    fix = "" if health.worker_running else "run luma-memory worker"
    return [Finding("service", verdict, detail, fix)]


def port_is_free(host: str, port: int) -> bool:
    """Whether this process could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def worst(findings: Sequence[Finding]) -> Verdict:
    """The worst verdict of all findings."""
    verdicts = {finding.verdict for finding in findings}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"
