"""The view of `top`: one snapshot, and the changes since the previous one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from luma_memory.cli.latencies import Histogram, Route
from luma_memory.cli.output import plain, printable, shortened
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.health import HealthBody, ReembeddingBody
from luma_memory.protocol.jobs import JobBody, JobStatsBody

FAILURES_SHOWN = 5
ROUTES_SHOWN = 12
_ERROR_CHARACTERS = 90
_OLD_SECONDS = 30.0
# What `top` itself sends between two snapshots of the metrics, once each.
_OWN_REQUESTS: Collection[Route] = frozenset(
    ("GET", path) for path in ("/health", "/jobs", "/jobs/stats", "/cache/stats", "/metrics")
)
_STATUS_STYLES = {"ok": "bold green", "degraded": "bold yellow", "unavailable": "bold red"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the service at one time; None for what it did not return."""

    at: float  # monotonic seconds
    health: HealthBody
    stats: JobStatsBody | None
    cache: CacheStatsBody | None
    requests: Mapping[Route, Histogram] | None
    failures: Sequence[JobBody] | None
    notes: Sequence[str]


def view(snapshot: Snapshot, before: Snapshot | None, url: str) -> RenderableType:
    """Everything on one screen."""
    parts: list[RenderableType] = [
        _head(snapshot, url),
        Columns([_queue(snapshot, before), _workers(snapshot), _cache(snapshot)], padding=(0, 1)),
        latency_table(
            snapshot.requests,
            before.requests if before else None,
            seconds=snapshot.at - before.at if before else 0.0,
        ),
    ]
    if snapshot.health.reembedding is not None:
        parts.insert(1, _reembedding(snapshot.health.reembedding))
    if snapshot.failures:
        parts.append(_failures(snapshot.failures))
    parts += [plain(note, style="yellow") for note in snapshot.notes]
    return Group(*parts)


def trouble_view(message: str, url: str) -> RenderableType:
    """Shown while the service does not respond."""
    return Panel(plain(message, style="bold red"), title=printable(url), subtitle="retrying")


def _head(snapshot: Snapshot, url: str) -> RenderableType:
    health = snapshot.health
    return Text.assemble(
        ("Luma Memory ", "bold"),
        f"{printable(health.version)}  {printable(url)}  ",
        (health.status, _STATUS_STYLES.get(health.status, "bold")),
        f"  database {health.database}, up {_span(health.uptime_seconds)}",
        "" if health.system_enabled else "  MEMORY_SYSTEM_ENABLED is false",
    )


def _reembedding(change: ReembeddingBody) -> Text:
    if change.done is None or change.total is None:
        counted = "counting"
    else:
        share = change.done / change.total if change.total else 1.0
        counted = f"{change.done:,} of {change.total:,} passages ({math.floor(100 * share)} %)"
    return Text(f"re-embedding for {printable(change.model)}: {counted}")


def _queue(snapshot: Snapshot, before: Snapshot | None) -> Panel:
    grid = _grid()
    stats = snapshot.stats
    if stats is None:
        grid.add_row("unknown", "")
        return Panel(grid, title="queue")
    oldest = stats.oldest_pending_seconds
    old = "bold red" if (oldest or 0) > _OLD_SECONDS else ""
    if stats.paused:
        grid.add_row("paused", Text(", ".join(stats.paused), style="bold yellow"))
    grid.add_row("pending", f"{stats.pending - stats.deferred:,}")
    grid.add_row("deferred", f"{stats.deferred:,}")
    grid.add_row("processing", f"{stats.processing:,}")
    grid.add_row("completed", f"{stats.completed:,}")
    grid.add_row("per second", _completed_per_second(stats, snapshot, before))
    grid.add_row("failed", Text(f"{stats.failed:,}", style="bold red" if stats.failed else ""))
    grid.add_row("oldest", Text("-" if oldest is None else f"{oldest:,.1f} s", style=old))
    return Panel(grid, title="queue")


def _completed_per_second(stats: JobStatsBody, snapshot: Snapshot, before: Snapshot | None) -> str:
    if before is None or before.stats is None:
        return "-"
    return f"{(stats.completed - before.stats.completed) / (snapshot.at - before.at):,.1f}"


def _workers(snapshot: Snapshot) -> Panel:
    health, grid = snapshot.health, _grid()
    missing = health.features.worker and not health.workers
    grid.add_row("alive", Text(f"{health.workers}", style="bold red" if missing else ""))
    for name, is_on in health.features.model_dump().items():
        grid.add_row(
            name.replace("_", " "), Text("on" if is_on else "off", style="" if is_on else "dim")
        )
    for name, provider in health.providers.items():
        grid.add_row(f"{name} by", plain(shortened(provider, 28)))
    return Panel(grid, title="workers")


def _cache(snapshot: Snapshot) -> Panel:
    cache, grid = snapshot.cache, _grid()
    connected = snapshot.health.cache.connected
    grid.add_row(
        "connected", Text("yes" if connected else "no", style="" if connected else "bold red")
    )
    if cache is not None:
        reads = (cache.hits or 0) + (cache.misses or 0)
        grid.add_row("backend", cache.backend)
        grid.add_row("keys", "-" if cache.keys_count is None else f"{cache.keys_count:,}")
        grid.add_row("memory", cache.memory_used or "-")
        grid.add_row("reads, 24 h", f"{reads:,}")
        grid.add_row("hit rate", "-" if cache.hit_rate is None else f"{cache.hit_rate:.0%}")
    return Panel(grid, title="cache")


def latency_table(
    requests: Mapping[Route, Histogram] | None,
    before: Mapping[Route, Histogram] | None,
    *,
    seconds: float,
) -> Table:
    """The busiest routes of other clients between two snapshots of the metrics.

    `top`'s own requests are not counted; their latencies are part of a route's percentiles.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("requests since the last update", no_wrap=True, overflow="ellipsis")
    for name in ("per second", "p50", "p95", "p99", "5xx"):
        table.add_column(name, justify="right", no_wrap=True)
    if requests is None or before is None:
        return table
    fresh = {
        route: histogram.since(before.get(route, Histogram()))
        for route, histogram in requests.items()
    }
    counts = {
        route: histogram.count - (route in _OWN_REQUESTS) for route, histogram in fresh.items()
    }
    for route in sorted(counts, key=lambda route: -counts[route])[:ROUTES_SHOWN]:
        histogram = fresh[route]
        if counts[route] > 0:
            errors = f"{histogram.errors:,.0f}"
            table.add_row(
                plain(" ".join(route)),
                f"{counts[route] / seconds:,.1f}",
                *(_milliseconds(histogram.quantile_seconds(share)) for share in (0.5, 0.95, 0.99)),
                Text(errors, style="bold red" if histogram.errors else "dim"),
            )
    return table


def _failures(jobs: Sequence[JobBody]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("failed job", "type", "class", "error"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for job in jobs:
        error = shortened(job.last_error or "", _ERROR_CHARACTERS)
        table.add_row(str(job.id), job.job_type, job.error_class or "", plain(error))
    return table


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    return grid


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1_000:,.1f} ms"


def _span(seconds: int) -> str:
    hours, minutes = seconds // 3_600, seconds % 3_600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
