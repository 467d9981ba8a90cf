"""Errors as tool results: a stable code, what happened, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError

from luma_memory.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LumaMemoryError,
    NotFound,
    QuotaExceeded,
    RequestError,
    Unauthenticated,
    UnavailableError,
)
from luma_memory.telemetry.logs import log_failure

ERROR_META: Final = "luma-memory/error"
_BY_CODE: Mapping[str, str] = {
    "block_not_found": "Check the id, and pass the user_id it belongs to; search_memories lists"
    " the ids that exist.",
    "job_not_found": "Use a job_id returned by add_memory; old jobs are pruned.",
    "user_id_missing": "Repeat the call with user_id.",
    "user_not_allowed": "Repeat the call without user_id.",
    "permission_missing": "Do not retry; inform the user that the key needs this permission.",
    "system_disabled": "Do not retry now; reading still works.",
    "service_starting": "Repeat the call in a few seconds.",
}
_BY_KIND: Sequence[tuple[type[LumaMemoryError], str]] = (
    (Unauthenticated, "Do not retry; inform the user that the key or token is not accepted."),
    (NotFound, "Check the id."),
    (Forbidden, "Do not retry; inform the user that this is not allowed."),
    (Conflict, "Read the current state and decide again."),
    (QuotaExceeded, "Wait before the next call."),
    (RequestError, "Correct the arguments and repeat the call."),
    (UnavailableError, "Nothing is wrong with the call; repeat it in a few seconds."),
)
_OTHERWISE: Final = "Do not retry; inform the user of it."
_PROBLEMS_MAX: Final = 5


def error_result(error: LumaMemoryError) -> CallToolResult:
    """The result for an error of the service; internal errors are logged and not described."""
    advice = _BY_CODE.get(error.code) or next(
        (text for kind, text in _BY_KIND if isinstance(error, kind)), None
    )
    if advice is None and error.code == "internal":
        log_failure("A tool call failed with an internal error", error)
        return internal_result()
    field = error.field if isinstance(error, Invalid) else None
    meta: dict[str, Any] = {"code": error.code, "retryable": error.retryable}
    if field is not None:
        meta["field"] = field
    return _result(error.code, str(error), advice or _OTHERWISE, meta)


def internal_result() -> CallToolResult:
    """For a bug; its trace is in the log."""
    meta = {"code": "internal", "retryable": False}
    return _result("internal", "An internal error occurred", _OTHERWISE, meta)


def invalid_result(error: ValidationError) -> CallToolResult:
    """For arguments that do not fit, without the rejected values."""
    problems = [
        {
            "field": _printable(".".join(str(part) for part in problem["loc"])) or "arguments",
            "code": problem["type"],
            "detail": problem["msg"],
        }
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ][:_PROBLEMS_MAX]
    detail = "; ".join(f"{entry['field']}: {entry['detail']}" for entry in problems)
    meta = {"code": "invalid_request", "retryable": False, "errors": problems}
    return _result("invalid_request", detail, "Correct the arguments and repeat the call.", meta)


def _result(code: str, detail: str, advice: str, meta: Mapping[str, Any]) -> CallToolResult:
    text = f"Error {code}: {detail.rstrip('.')}. {advice}"
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        is_error=True,
        _meta={ERROR_META: dict(meta)},
    )


def _printable(path: str) -> str:
    # The path may contain a name chosen by the caller.
    return path.encode("utf-8", "replace").decode()[:200]
