"""What a search may ask for, through HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx2
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _stored(client: httpx2.AsyncClient) -> str:
    user_id = f"user-{uuid4()}"
    blocks: list[dict[str, Any]] = [
        {"content": "The kayak is red.", "source": "mail", "occurred_at": "2023-05-01T09:00:00Z"},
        {"content": "The kayak was sold.", "source": "chat", "metadata": {"team": "blue"}},
    ]
    for block in blocks:
        response = await client.post("/blocks", json={"user_id": user_id, **block})
        assert response.status_code == 202
    return user_id


async def _search(client: httpx2.AsyncClient, user_id: str, **fields: Any) -> httpx2.Response:
    body = {"user_id": user_id, "query": "What about the kayak?", **fields}
    return await client.post("/search", json=body)


def _contents(response: httpx2.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return {hit["block"]["content"] for hit in response.json()["results"]}


async def test_filters_and_as_of_narrow(client: httpx2.AsyncClient) -> None:
    user_id = await _stored(client)
    red, sold = "The kayak is red.", "The kayak was sold."
    assert _contents(await _search(client, user_id)) == {red, sold}
    assert _contents(await _search(client, user_id, filters={"source": "mail"})) == {red}
    by_team = {"NOT": {"metadata.team": "blue"}}
    assert _contents(await _search(client, user_id, filters=by_team)) == {red}
    assert _contents(await _search(client, user_id, as_of="2023-06-01T00:00:00Z")) == {red}
    assert _contents(await _search(client, user_id, as_of="2020-06-01T00:00:00Z")) == set()
    other = await _search(client, f"user-{uuid4()}", filters={"OR": [{"source": "mail"}]})
    assert _contents(other) == set()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"filters": {"user_id": "somebody else"}}, "invalid_filter"),
        ({"filters": {"source": {"regex": ".*"}}}, "invalid_filter"),
        ({"filters": {"OR": {"source": "a"}}}, "invalid_filter"),
        ({"filters": "source = 1"}, None),
        ({"timeout_ms": 0}, None),
        ({"ranking": "best"}, None),
        ({"as_of": "yesterday"}, None),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    fields: dict[str, Any], code: str | None, client: httpx2.AsyncClient
) -> None:
    response = await _search(client, f"user-{uuid4()}", **fields)
    assert 400 <= response.status_code < 500
    assert response.headers["content-type"] == "application/problem+json"
    assert code is None or response.json()["code"] == code


@pytest.mark.parametrize("ranking", ["fused", "dense", "lexical", "reciprocal"])
async def test_every_ranking_returns_results(ranking: str, client: httpx2.AsyncClient) -> None:
    user_id = await _stored(client)
    response = await _search(client, user_id, ranking=ranking, explain=True, timeout_ms=5_000)
    assert response.status_code == 200
    if ranking != "dense":  # no worker may have seen them yet
        assert len(response.json()["results"]) == 2
    scores = [hit["score"] for hit in response.json()["results"]]
    assert scores == sorted(scores, reverse=True)
    assert set(response.json()["timings_ms"]) >= {"embed", "scan"}


async def test_nothing_relevant_is_a_valid_result(client: httpx2.AsyncClient) -> None:
    user_id = await _stored(client)
    question = {"query": "Which insurance covers the dentist's bill?"}
    nearest = (await _search(client, user_id, **question)).json()
    assert (len(nearest["results"]), nearest["relevant"]) in {(n, False) for n in range(3)}
    assert all(hit["relevance"] < 0.75 for hit in nearest["results"])
    nothing = (await _search(client, user_id, **question, relevant_only=True)).json()
    assert (nothing["results"], nothing["relevant"]) == ([], False)
    sold = (await _search(client, user_id, query="kayak sold", relevant_only=True)).json()
    relevances = {hit["block"]["content"]: hit["relevance"] for hit in sold["results"]}
    assert (sold["relevant"], relevances["The kayak was sold."] >= 0.75) == (True, True)
    context = {"user_id": user_id, **question}
    context_body = (await client.post("/context", json=context)).json()
    assert context_body["relevant"] is False
    nothing = (await client.post("/context", json={**context, "relevant_only": True})).json()
    assert (nothing["blocks"], nothing["text"], nothing["relevant"]) == ([], "", False)
