"""The client raises each error of the service as the same class."""

from __future__ import annotations

import json

import pytest

from luma_memory.api.problems import error_response, internal_problem
from luma_memory.client.calls import Call
from luma_memory.client.lines import Lines
from luma_memory.client.responses import ProblemResponse, parsed, refusal
from luma_memory.client.retries import Attempts, Retries
from luma_memory.client.waiting import Accepted
from luma_memory.domain import errors
from luma_memory.domain.errors import LumaMemoryError, SetupError, UnavailableError


def raised() -> list[LumaMemoryError]:
    return [
        errors.Invalid("no", code="text_blank", field="content"),
        errors.Unauthenticated("who"),
        errors.NotFound("none", code="block_not_found"),
        errors.Conflict("not now"),
        errors.PreconditionFailed("changed", code="revision_mismatch"),
        errors.Forbidden("no", code="permission_missing"),
        errors.QuotaExceeded("slow", code="too_many_requests", retry_after_seconds=7),
        errors.StoreUnavailable("away"),
        errors.StoreContended("locked"),
        errors.SearchTimeout("late"),
        errors.ProviderUnavailable("away"),
        errors.ProviderPaused("away", retry_after_seconds=9),
        errors.ProviderTimeout("late"),
        errors.RateLimited("slow", retry_after_seconds=12),
        errors.ProviderRejected("no"),
        errors.ProviderResponseInvalid("odd"),
        errors.RejectedError("no"),
        errors.InvariantError("bug"),
        UnavailableError("off", code="system_disabled"),
    ]


@pytest.mark.parametrize("error", raised(), ids=lambda error: type(error).__name__)
def test_errors_come_back_as_they_were(error: LumaMemoryError) -> None:
    scope = {"type": "http", "state": {"request_id": "r-1"}}
    is_bug = isinstance(error, errors.InvariantError)  # which would be logged
    response = internal_problem("r-1") if is_bug else error_response(scope, error)
    headers = {name.lower(): value for name, value in response.headers.items()}
    back = refusal(response.status_code, bytes(response.body), headers, address="x")
    assert type(back) is type(error)
    assert back.code == error.code
    assert back.request_id == "r-1"
    assert back.retryable == error.retryable
    assert isinstance(back.__cause__, ProblemResponse)
    assert getattr(back, "field", None) == getattr(error, "field", None)
    if (wait := getattr(error, "retry_after_seconds", None)) is not None:
        assert getattr(back, "retry_after_seconds", None) == wait


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (502, UnavailableError, "gateway_unavailable"),
        (504, UnavailableError, "gateway_unavailable"),
        (429, errors.QuotaExceeded, "gateway_limit"),
        (404, SetupError, "not_this_service"),
        (301, SetupError, "not_this_service"),
    ],
)
def test_responses_of_other_servers_are_recognized(
    status: int, kind: type[LumaMemoryError], code: str
) -> None:
    error = refusal(status, b"<html>nginx</html>", {"retry-after": "3"}, address="here")
    assert (type(error), error.code) == (kind, code)
    if isinstance(error, UnavailableError):
        assert error.retry_after_seconds == 3


READ = Call("GET", "/x")
ONCE = Call("POST", "/x", is_repeatable=False)


def test_pauses_double_with_jitter_up_to_a_limit() -> None:
    attempts = Attempts(Retries(attempts_max=9, seconds_max=1e9, pause_seconds_max=1.0))
    pauses = [attempts.pause_after(UnavailableError("away"), READ) for _ in range(8)]
    limits = [0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    for pause, limit in zip(pauses, limits, strict=True):
        assert pause is not None
        assert limit / 2 <= pause <= limit
    assert attempts.pause_after(UnavailableError("away"), READ) is None


def test_retry_after_is_obeyed_or_the_error_is_raised() -> None:
    now = 100.0
    attempts = Attempts(Retries(seconds_max=20), now=lambda: now)
    error = errors.RateLimited("slow", retry_after_seconds=15)
    assert attempts.pause_after(error, READ) == 15
    now += 15
    assert attempts.pause_after(error, READ) is None


@pytest.mark.parametrize(
    ("error", "call", "again"),
    [
        (UnavailableError("away", code="service_unreachable"), ONCE, True),
        (UnavailableError("away", code="connection_lost"), ONCE, False),
        (UnavailableError("away", code="connection_lost"), READ, True),
        (UnavailableError("off", code="system_disabled"), READ, False),
        (errors.Invalid("no"), READ, False),
        (errors.InvariantError("bug"), READ, False),
        (errors.ProviderResponseInvalid("odd"), READ, False),
    ],
)
def test_only_what_is_safe_and_may_help_is_sent_again(
    error: LumaMemoryError, call: Call, again: bool
) -> None:
    assert (Attempts(Retries()).pause_after(error, call) is not None) == again


def test_lines_are_put_together_from_any_pieces() -> None:
    rows = [{"kind": "header"}, {"kind": "blocks", "row": {"content": "ü" * 50}}, {"kind": "end"}]
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    for size in (1, 3, 50, len(text)):
        lines = Lines()
        got = [
            line
            for start in range(0, len(text), size)
            for line in lines.take(text[start : start + size])
        ]
        assert [json.loads(line) for line in got] == rows
        lines.check_end()


def test_an_accepted_block_is_parsed_from_either_status() -> None:
    """Where no worker runs, the block itself is the answer: enriched, and with more in it."""
    block_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    for more in ({}, {"content": "Tea.", "user_id": "ada", "revision": 1}):
        content = json.dumps({"id": block_id, "status": "active", "job_id": 7, **more}).encode()
        accepted = parsed(Accepted, content).body()
        assert (str(accepted.id), accepted.status, accepted.job_id) == (block_id, "active", 7)
    with pytest.raises(errors.ProviderResponseInvalid, match="form unknown"):
        parsed(Accepted, b"<html>")


@pytest.mark.parametrize("kept", [0, 20, -3])
def test_an_export_without_its_end_is_refused(kept: int) -> None:
    text = b'{"kind": "header"}\n{"kind": "end"}\n'
    lines = Lines()
    lines.take(text[:kept])
    with pytest.raises(UnavailableError, match="cut off"):
        lines.check_end()
