"""The endpoint of agents is operated as the REST routes are: ids, metrics, traces and limits."""

from __future__ import annotations

import httpx2
import pytest
from tests.fakes.otlp_collector import OtlpCollector
from tests.support.agents import MODERN, plain_request
from tests.support.keyed_service import beside
from tests.support.servers import Servers
from tests.support.service import BASE_PATH
from tests.support.stacks import running_service

TRACE_ID = "0af7651916cd43dd8448eb211c80319d"
TEXT = "The walrus sleeps at the pier."


def tool_call(name: str, **arguments: object) -> tuple[dict[str, object], dict[str, str]]:
    return plain_request("tools/call", {"name": name, "arguments": arguments}, MODERN)


async def test_calls_have_ids_metrics_traces_and_limits(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with OtlpCollector() as collector:
        async with (
            running_service(
                servers, mcp_user_id="ada", otel_exporter_otlp_endpoint=collector.url
            ) as stack,
            httpx2.AsyncClient(base_url=stack.base_url, trust_env=False, timeout=30) as http,
        ):
            body, headers = tool_call("add_memory", content=TEXT)
            headers |= {
                "X-Request-ID": "call-of-a-host",
                "traceparent": f"00-{TRACE_ID}-b7ad6b7169203332-01",
            }
            response = await http.post("/mcp", json=body, headers=headers)
            assert response.json()["result"]["isError"] is False
            assert response.headers["X-Request-ID"] == "call-of-a-host"
            metrics = (await http.get(f"{BASE_PATH}/metrics")).text.splitlines()
            requests = [line for line in metrics if 'route="/mcp"' in line]
            assert any(line.startswith("luma_request_seconds_count") for line in requests), metrics
            seen = collector.wait_for(lambda spans: any(s.name == "POST /mcp" for s in spans))
            (span,) = [span for span in seen if span.name == "POST /mcp"]
            assert (span.trace_id, span.parent_id) == (TRACE_ID, "b7ad6b7169203332")
            assert span.attributes["luma.request.id"] == "call-of-a-host"
            below = {found.name for found in seen if found.parent_id == span.span_id}
            assert below == {"ingest batch"}
            assert all(b"walrus" not in sent.body for sent in collector.deliveries)
            async with beside(stack, requests_per_minute=60, port=0) as counted:
                await check_rate(counted.base_url)


async def check_rate(url: str) -> None:
    body, headers = tool_call("get_memory", id="0" * 32)
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        response = await http.post("/mcp", json=body, headers=headers)
        while response.status_code == 200:
            response = await http.post("/mcp", json=body, headers=headers)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    error = response.json()["error"]["data"]
    assert (error["code"], error["retryable"]) == ("too_many_requests", True)
