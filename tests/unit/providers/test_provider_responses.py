"""Vectors checked, tokens estimated, waiting times read: no network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.concurrency.retry_after import retry_after_seconds
from luma_memory.domain.errors import (
    InvariantError,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from luma_memory.providers.embedding.vector_checks import IndexedValues, checked_vectors
from luma_memory.providers.fault_translation import ForeignError, provider_faults
from luma_memory.providers.tokens import cut_to_tokens


def indexed(*vectors: list[float]) -> list[IndexedValues]:
    return [
        IndexedValues(index, np.asarray(vector, dtype=np.float32))
        for index, vector in enumerate(vectors)
    ]


@given(
    st.lists(
        st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=3, max_size=3).filter(
            lambda values: max(map(abs, values)) > 1e-6
        ),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_any_order_becomes_unit_vectors_in_text_order(
    vectors: list[list[float]], random: object
) -> None:
    shuffled = indexed(*vectors)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    checked = checked_vectors(shuffled, count=len(vectors), dimension=3)
    for sent, unit in zip(vectors, checked, strict=True):
        norm = math.sqrt(sum(value * value for value in sent))
        assert list(unit) == pytest.approx([value / norm for value in sent], abs=1e-6)


@pytest.mark.parametrize(
    ("sent", "count", "dimension"),
    [
        (indexed([1.0, 0.0]), 2, 2),
        (indexed([1.0, 0.0], [1.0, 0.0]), 1, 2),
        (indexed([1.0, 0.0]), 1, 3),
        (indexed([1.0, 0.0], [1.0, 0.0, 0.0]), 2, None),
        (indexed([]), 1, None),
        (indexed([math.nan, 1.0]), 1, 2),
        (indexed([math.inf, 1.0]), 1, 2),
        (indexed([0.0, 0.0]), 1, 2),
        (indexed([1e-30, 0.0]), 1, 2),
        ([*indexed([1.0]), *indexed([1.0])], 2, 1),
        ([IndexedValues(1, np.ones(2, np.float32))], 1, 2),
        ([IndexedValues(0, np.ones((1, 2), np.float32))], 1, 2),
    ],
)
def test_spoilt_vectors_are_refused(
    sent: list[IndexedValues], count: int, dimension: int | None
) -> None:
    with pytest.raises(ProviderResponseInvalid):
        checked_vectors(sent, count=count, dimension=dimension)


@given(st.text(max_size=400), st.integers(min_value=2, max_value=60))
def test_a_cut_is_a_start_that_fits(text: str, tokens_max: int) -> None:
    cut, tokens = cut_to_tokens(text, tokens_max)
    assert text.startswith(cut)
    assert 1 <= tokens <= tokens_max
    assert cut_to_tokens(cut, tokens_max)[0] == cut


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10, 15),  # 10 tokens in cl100k_base
        ("1234567890", 4, 4),
        ("私は昨日東京に行きました。", 13, 28),
        ("", 1, 1),
    ],
)
def test_estimates_err_on_the_high_side(text: str, low: int, high: int) -> None:
    assert low <= cut_to_tokens(text, 10_000)[1] <= high


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_header_gives_a_sane_wait(wait: str, date: str) -> None:
    headers = {"retry-after": wait, "retry-after-ms": date, "date": date}
    assert 1.0 <= retry_after_seconds(headers) <= 3600.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 10.0),
        ({"retry-after-ms": "2500", "retry-after": "60"}, 2.5),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:30 GMT"}, 1.0),
        (
            {
                "retry-after": "Mon, 01 Jan 2001 00:00:30 GMT",
                "date": "Mon, 01 Jan 2001 00:00:00 GMT",
            },
            30.0,
        ),
    ],
)
def test_waits(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        (TimeoutError("secret"), ProviderTimeout),
        (IndexError("secret"), ProviderResponseInvalid),
        (RecursionError("secret"), ProviderResponseInvalid),
    ],
)
def test_foreign_errors_are_reported_without_their_text(
    foreign: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught, provider_faults():
        raise foreign
    cause = caught.value.__cause__
    assert isinstance(cause, ForeignError)
    assert "secret" not in f"{caught.value} {cause}"
    assert type(foreign).__name__ in str(cause)
    assert cause.__traceback__ is not None


@pytest.mark.parametrize(
    "own",
    [ProviderUnavailable("x"), RateLimited("x", retry_after_seconds=1.0), InvariantError("x")],
)
def test_own_errors_pass_as_they_are(own: Exception) -> None:
    with pytest.raises(type(own)) as caught, provider_faults():
        raise own
    assert caught.value is own


def test_cancellation_passes() -> None:
    with pytest.raises(KeyboardInterrupt), provider_faults():
        raise KeyboardInterrupt
