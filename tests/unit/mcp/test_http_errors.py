"""Refusals of the API at the protocol's path, in the protocol's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp_types import JSONRPCError, jsonrpc_message_adapter
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from luma_memory.api.problems import error_response
from luma_memory.domain.errors import LumaMemoryError, QuotaExceeded, StoreUnavailable
from luma_memory.mcp import MCP_PATH


def app_of(error: LumaMemoryError) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "r1"}
        await error_response(scope, error)(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable("PostgreSQL does not respond in time"), 503),
        (QuotaExceeded("Too many requests", code="too_many_requests", retry_after_seconds=3), 429),
    ],
)
def test_a_refusal_under_load_is_a_json_rpc_error_that_may_be_retried(
    error: LumaMemoryError, status: int
) -> None:
    client = TestClient(app_of(error))
    response = client.post(MCP_PATH)
    assert response.status_code == status
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/json"
    message = jsonrpc_message_adapter.validate_json(response.content, by_name=False)
    assert isinstance(message, JSONRPCError)
    assert message.error.message == f"{error.code}: {error}"
    assert message.error.data == {"code": error.code, "retryable": True, "request_id": "r1"}
    # Elsewhere it is a problem document.
    assert json.loads(client.post("/api/v1/memory/search").content)["code"] == error.code
