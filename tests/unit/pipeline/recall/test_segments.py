"""Products of a segment's vectors, in one thread and in several."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from luma_memory.pipeline.recall import segments
from luma_memory.pipeline.recall.segments import Segment


def _segment(vectors: np.ndarray) -> Segment:
    empty = np.zeros(0, dtype=np.int32)
    return Segment(
        row_count=len(vectors),
        vectors=vectors,
        terms=empty,
        starts=np.zeros(1, dtype=np.int64),
        rows=empty,
        weights=np.zeros(0, dtype=np.float32),
    )


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 199, 200, 301, 1_000])
@pytest.mark.parametrize("cores", [1, 2, 16])
def test_several_threads_compute_what_one_does(
    count: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "VECTORS_A_THREAD", 100)
    monkeypatch.setattr(segments, "PART_VECTORS", 30)
    monkeypatch.setattr(segments, "usable_cores", lambda: cores)
    random = np.random.default_rng(count)
    vectors = random.standard_normal((count, 48)).astype(np.float16)
    question = random.standard_normal(48).astype(np.float16)
    found = np.full(count, np.nan, dtype=np.float32)
    _segment(vectors).similarities(question, found)
    expected = vectors.astype(np.float64) @ question.astype(np.float64)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_product_does_not_wait_for_threads_that_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "VECTORS_A_THREAD", 100)
    monkeypatch.setattr(segments, "PART_VECTORS", 30)
    monkeypatch.setattr(segments, "usable_cores", lambda: 16)
    released = Event()
    busy = [segments._threads().submit(released.wait) for _ in range(segments.THREADS_MAX)]
    vectors = np.ones((1_000, 48), dtype=np.float16)
    found = np.full(1_000, np.nan, dtype=np.float32)
    try:
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(_segment(vectors).similarities, vectors[0], found)
            try:
                work.result(timeout=60)
            finally:
                released.set()
    finally:
        for one in busy:
            one.result()
    assert found.tolist() == [48.0] * 1_000
