"""Rate limits: a minute's uses, refilled evenly, in bounded memory."""

from __future__ import annotations

import pytest

from luma_memory.concurrency import token_buckets
from luma_memory.concurrency.token_buckets import TokenBuckets


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minutes_uses_and_refills_evenly() -> None:
    seconds = Seconds()
    buckets = TokenBuckets(6, monotonic=seconds)
    assert [buckets.take("a") for _ in range(7)] == [0.0] * 6 + [10.0]
    assert buckets.take("b") == 0.0
    seconds.now += 4
    assert buckets.take("a") == pytest.approx(6.0)
    seconds.now += 6
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == pytest.approx(10.0)


def test_a_refused_use_takes_nothing() -> None:
    seconds = Seconds()
    buckets = TokenBuckets(1, monotonic=seconds)
    assert buckets.take("a") == 0.0
    for _ in range(50):
        assert buckets.take("a") == 60.0


def test_the_names_used_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "NAMES_MAX", 2)
    buckets = TokenBuckets(1, monotonic=Seconds())
    assert [buckets.take(name) for name in ("a", "b", "a", "c")] == [0.0, 0.0, 60.0, 0.0]
    assert buckets.take("a") == 60.0
    assert buckets.take("b") == 0.0
