"""Requests as values: what they contain, under which key, in which path."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from luma_memory.client import NewBlockBody
from luma_memory.client.batches import BLOCKS_MAX, BYTES_MAX, in_batches
from luma_memory.client.calls import ask, plain, read, segment, without_none, write
from luma_memory.domain.errors import Invalid


def test_every_write_has_a_key_of_its_own() -> None:
    keys = [
        write("DELETE", "/users/a", idempotency_key=None).headers["Idempotency-Key"]
        for _ in range(3)
    ]
    assert len(set(keys)) == 3
    assert write("DELETE", "/x", idempotency_key="mine").headers["Idempotency-Key"] == "mine"


def test_a_key_in_the_body_is_the_only_one() -> None:
    body = plain(NewBlockBody(user_id="a", content="b", idempotency_key="mine"))
    assert "Idempotency-Key" not in write("POST", "/blocks", body, idempotency_key=None).headers


@pytest.mark.parametrize("key", [" ", " a", "a\n", "naïve", "a\x7f"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="printable"):
        write("POST", "/blocks", {}, idempotency_key=key)


def test_a_model_serializes_only_fields_that_were_set() -> None:
    block = NewBlockBody(user_id="a", content="b", occurred_at=datetime(2026, 3, 4, tzinfo=UTC))
    assert plain(block) == {"user_id": "a", "content": "b", "occurred_at": "2026-03-04T00:00:00Z"}


def test_a_mapping_may_hold_times_and_surrogates() -> None:
    call = ask("/search", without_none(query="\udc00", as_of=date(2026, 3, 4), limit=None))
    assert json.loads(call.body or b"") == {"query": "\udc00", "as_of": "2026-03-04"}


def test_queries_are_escaped_and_times_are_aware() -> None:
    later = datetime(2026, 3, 4, 12, tzinfo=timezone(timedelta(hours=2)))
    path = read("/jobs", user_id="a b&c=d/ü", created_after=later, limit=3, wait=True).path
    assert path == (
        "/jobs?user_id=a%20b%26c%3Dd%2F%C3%BC&created_after=2026-03-04T12%3A00%3A00%2B02%3A00"
        "&limit=3&wait=true"
    )
    assert read("/jobs", created_after=datetime(2026, 3, 4)).path.endswith("00%2B00%3A00")  # noqa: DTZ001
    with pytest.raises(Invalid, match="surrogate"):
        read("/jobs", user_id="\ud800")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b#c", "%2F", "ü"])
def test_a_segment_stays_one(name: str) -> None:
    assert set("./?# ") & set(segment(name)) == set()


def test_batches_are_bounded_in_number_and_in_size() -> None:
    small = [{"user_id": "a", "content": str(number)} for number in range(BLOCKS_MAX * 2 + 1)]
    assert [len(batch) for batch in in_batches(small)] == [BLOCKS_MAX, BLOCKS_MAX, 1]
    large = [{"content": "x" * (BYTES_MAX // 3)}] * 5 + [{"content": "x" * (2 * BYTES_MAX)}]
    assert [len(batch) for batch in in_batches(large)] == [2, 2, 1, 1]
    assert list(in_batches([])) == []
