"""Errors of the HTTP transport that arise before the protocol's server sees the message.

Without the protocol's SDK, an optional dependency: the API imports this module in any case.
"""

from __future__ import annotations

import json
from typing import Any, Final

from luma_memory.protocol.problem import Problem

JSON_MEDIA_TYPE: Final = "application/json"
_INVALID_REQUEST: Final = -32600
_INTERNAL_ERROR: Final = -32603
# Statuses after which the same message may succeed.
_RETRYABLE: Final = frozenset({408, 429, 503})


def error_message(problem: Problem) -> bytes:
    """The problem as a JSON-RPC error without an id, which clients assign to their request.

    Clients show its message to the host; of any other body they report only that there was an
    error.
    """
    data: dict[str, Any] = {"code": problem.code, "retryable": problem.status in _RETRYABLE}
    if problem.request_id is not None:
        data["request_id"] = problem.request_id
    error = {
        "code": _INTERNAL_ERROR if problem.status >= 500 else _INVALID_REQUEST,
        "message": f"{problem.code}: {problem.detail}",
        "data": data,
    }
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
