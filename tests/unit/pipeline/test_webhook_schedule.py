"""When deliveries are retried, and what a body holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from luma_memory.domain.webhook import (
    BODY_BYTES_MAX,
    DueDelivery,
    EndpointState,
    Event,
    Response,
)
from luma_memory.pipeline.webhooks.payload import body_of, signing_key
from luma_memory.pipeline.webhooks.schedule import CIRCUIT_FAILURES, WAITS, retry_at, state_after

NOW = datetime(2026, 3, 3, 10, tzinfo=UTC)
UNIT = timedelta(seconds=5)
EVENT = Event(UUID(int=1), "block.active", "shop", "ada", UUID(int=2), {}, NOW)
DUE = DueDelivery(1, EVENT, 0, NOW, None)
FAILED = Response(500, "the receiver responded 500")


def test_ten_attempts_are_spread_over_two_days() -> None:
    moment, attempts = NOW, 0
    while True:
        again = retry_at(replace(DUE, attempts=attempts), FAILED, unit=UNIT, now=moment)
        attempts += 1
        if again is None:
            break
        assert again > moment
        moment = again
    assert attempts == len(WAITS) + 1 == 10
    assert timedelta(hours=42) < moment - NOW < timedelta(hours=53)


@pytest.mark.parametrize("response", [Response(200), Response(204), Response(410, "gone")])
def test_a_success_and_gone_are_final(response: Response) -> None:
    assert retry_at(DUE, response, unit=UNIT, now=NOW) is None


def test_a_receiver_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() -> None:
    for seconds, expected in ((3_600.0, timedelta(hours=1)), (1e9, timedelta(hours=12))):
        response = Response(429, "no", retry_after_seconds=seconds)
        assert retry_at(DUE, response, unit=UNIT, now=NOW) == NOW + expected
    late = replace(DUE, attempts=4)
    again = retry_at(late, Response(503, "no", retry_after_seconds=1), unit=UNIT, now=NOW)
    assert again is not None
    assert again > NOW + timedelta(hours=1)


def test_a_delivery_that_is_too_old_is_given_up() -> None:
    assert retry_at(DUE, FAILED, unit=UNIT, now=NOW + timedelta(hours=60)) is None


def test_failures_in_a_row_pause_and_a_success_forgets_them() -> None:
    state = EndpointState()
    for _ in range(CIRCUIT_FAILURES - 1):
        state = state_after(state, FAILED, is_final=False, unit=UNIT, now=NOW)
        assert state.circuit_until is None
    waits = []
    for _ in range(12):
        state = state_after(state, FAILED, is_final=False, unit=UNIT, now=NOW)
        assert state.circuit_until is not None
        waits.append(state.circuit_until - NOW)
    assert timedelta(seconds=20) < waits[0] < timedelta(seconds=40)
    assert timedelta(minutes=10) < waits[-1] < timedelta(minutes=20)
    assert state.failing_since == NOW
    assert state_after(state, Response(200), is_final=True, unit=UNIT, now=NOW) == EndpointState()


def test_a_webhook_is_disabled_by_gone_and_by_a_day_of_failures() -> None:
    gone = state_after(EndpointState(), Response(410), is_final=True, unit=UNIT, now=NOW)
    assert gone.disabled_reason is not None
    since = EndpointState(20, NOW)
    for hours, disabled in ((1, False), (40, True)):
        moment = NOW + timedelta(hours=hours)
        state = state_after(since, FAILED, is_final=True, unit=UNIT, now=moment)
        assert (state.disabled_reason is not None) == disabled
    moment = NOW + timedelta(hours=40)
    state = state_after(since, FAILED, is_final=False, unit=UNIT, now=moment)
    assert state.disabled_reason is None


@pytest.mark.parametrize(
    "text", ["", "short", "ü" * 20_000, '"' * 20_000, "😀" * 9_000, "\x01" * 9_000]
)
def test_a_body_is_bounded_and_a_cut_text_is_marked(text: str) -> None:
    body = body_of(replace(DUE, content=text))
    assert len(body) <= BODY_BYTES_MAX
    data = json.loads(body)["data"]
    assert text.startswith(data["content"])
    assert data.get("content_truncated", False) == (data["content"] != text)


def test_a_body_has_ids_alone_by_default() -> None:
    assert json.loads(body_of(DUE)) == {
        "type": "block.active",
        "timestamp": "2026-03-03T10:00:00Z",
        "data": {"project_id": "shop", "user_id": "ada", "block_id": str(UUID(int=2))},
    }


def test_each_webhook_and_each_version_has_a_secret_of_its_own() -> None:
    keys = {
        signing_key(b"root", webhook, version)
        for webhook in (UUID(int=1), UUID(int=2))
        for version in (1, 2)
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
