"""What `top` shows: latencies of other clients, and a change of the embedding model."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console, RenderableType
from tests.support.health import healthy

from luma_memory.cli.latencies import Histogram
from luma_memory.cli.top_view import Snapshot, latency_table, view
from luma_memory.protocol.health import ReembeddingBody

OWN = [("GET", p) for p in ("/health", "/jobs", "/jobs/stats", "/cache/stats", "/metrics")]


def histogram(count: int) -> Histogram:
    return Histogram({0.1: float(count), math.inf: float(count)})


def shown(table: RenderableType) -> str:
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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (None, None),
        (ReembeddingBody(model="m-2", done=None, total=None), "for m-2: counting"),
        (
            ReembeddingBody(model="m-2", done=99_999, total=100_000),
            "for m-2: 99,999 of 100,000 passages (99 %)",
        ),
        (ReembeddingBody(model="m-2", done=0, total=0), "0 of 0 passages (100 %)"),
    ],
)
def test_a_change_of_the_embedding_model_is_shown(
    change: ReembeddingBody | None, text: str | None
) -> None:
    health = healthy(reembedding=change)
    printed = shown(view(Snapshot(0.0, health, None, None, None, None, []), None, "url"))
    assert ("re-embedding" in printed) == (text is not None)
    assert text is None or text in printed
