"""A route's shortcut responds as the framework does, to what it takes and to what it leaves."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

_JSON = "application/json"
# An uncommon content type keeps a request from the shortcut.
_FRAMED = "application/json; charset=utf-8"
_ROUTES = ("/search", "/context", "/mem0/v3/memories/search/")
_PASSING = {"request_id", "timings_ms", "cached", "age_seconds", "timings"}
_BODIES: tuple[Any, ...] = (
    {"query": "Where is the kayak?"},
    {"query": "Where is the kayak?", "filters": {"source": "none"}},
    {"query": "kayak", "limit": 0},
    {"query": "kayak", "limit": 1, "more": 2},
    {"query": "kayak", "filters": {"no_such_field": {"no_such_operator": 1}}},
    {"query": ""},
    {"query": 3},
    {"query": "cut \ud83d"},
    {},
    [],
    None,
    "{",
    "",
    '{"query": "a", "query": "b"}',
    '{"query": NaN}',
)


@pytest.mark.parametrize("route", _ROUTES)
async def test_a_shortcut_responds_as_the_framework(route: str, client: httpx2.AsyncClient) -> None:
    user = f"shortcut-{uuid4()}"
    is_mem0 = route.startswith("/mem0")
    stored = {
        "user_id": user,
        "content": "The kayak is in the garage.",
        "occurred_at": "2026-03-01T00:00:00Z",
    }
    assert (await client.post("/blocks?wait=true", json=stored)).status_code == 201
    statuses = set()
    for body in _BODIES:
        if isinstance(body, dict):
            filters = {**body.get("filters", {}), "user_id": user}
            body = {**body, "filters": filters} if is_mem0 else {"user_id": user, **body}
        content = body if isinstance(body, str) else json.dumps(body)
        found = []
        # Twice, because the first may fill a cache.
        for kind in (_FRAMED, _FRAMED, _JSON):
            response = await client.post(
                str(client.base_url.join(route)) if is_mem0 else route,
                content=content,
                headers={"Content-Type": kind},
            )
            found.append(_comparable(response))
        assert found[1] == found[2]
        statuses.add(found[2][0])
    assert 200 in statuses
    assert any(status >= 400 for status in statuses)


def _comparable(response: httpx2.Response) -> tuple[int, str | None, Any]:
    """Without what differs between equal requests: ids, durations, where it was kept."""
    return response.status_code, response.headers.get("Content-Type"), _lasting(response.json())


def _lasting(value: Any) -> Any:
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    if isinstance(value, dict):
        return {name: _lasting(one) for name, one in value.items() if name not in _PASSING}
    return round(value, 5) if isinstance(value, float) else value  # a scan rounds otherwise
