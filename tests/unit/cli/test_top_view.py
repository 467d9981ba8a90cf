"""The latencies that `top` shows are those of other clients."""

from __future__ import annotations

import io
import math

from rich.console import Console
from rich.table import Table

from luma_memory.cli.latencies import Histogram
from luma_memory.cli.top_view import latency_table

OWN = [("GET", p) for p in ("/health", "/jobs", "/jobs/stats", "/cache/stats", "/metrics")]


def histogram(count: int) -> Histogram:
    return Histogram({0.1: float(count), math.inf: float(count)})


def shown(table: Table) -> str:
    out = Console(file=io.StringIO(), width=160)
    out.print(table)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_its_own_polling_is_left_out() -> None:
    before = {route: histogram(10) for route in OWN}
    now = {route: histogram(11) for route in OWN} | {("POST", "/search"): histogram(3)}
    text = shown(latency_table(now, before, seconds=1.0))
    assert "POST /search" in text
    assert "GET" not in text


def test_others_polling_the_same_routes_are_counted() -> None:
    before = {("GET", "/health"): histogram(10)}
    now = {("GET", "/health"): histogram(15)}
    text = shown(latency_table(now, before, seconds=1.0))
    assert text.count("GET /health") == 1
    assert " 4.0 " in text
