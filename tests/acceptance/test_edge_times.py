"""Whatever time a write accepts, every read of it returns a result."""

from __future__ import annotations

import httpx2
import pytest
from tests.support.service import until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDGES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T23:59:59.999999-14:00",
    "0001-01-02T00:00:00+14:00",
    "0002-02-29T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T10:00:00+14:00",
    "9999-12-30T23:59:59-12:00",
    "2026-03-29T02:30:00+01:00",
)
TEXTS = (
    "The comet came 100,000 years ago and returns in 10 billion years.",
    "Yesterday, tomorrow, the week before last and a week from Monday.",
)
QUESTIONS = (
    "When does the comet return?",
    "What did I do yesterday?",
    "What happened 100,000 years ago or in 10 billion years?",
    "What happened on 9999-12-31 and on 0001-01-01?",
)


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_no_accepted_time_breaks_a_read(client: httpx2.AsyncClient, time_zone: str) -> None:
    whose = {"user_id": f"edges-{time_zone.rpartition('/')[2]}"}
    user = await client.patch(f"/users/{whose['user_id']}", json={"time_zone": time_zone})
    assert user.status_code == 200
    stored = []
    for edge in EDGES:
        for text in TEXTS:
            block = {**whose, "content": text, "occurred_at": edge, "session_id": edge[:4]}
            accepted = await client.post("/blocks", json=block)
            assert accepted.status_code < 500, accepted.text
            if accepted.status_code == 202:
                stored.append(accepted.json()["id"])
    assert len(stored) >= 2 * len(TEXTS)
    await until_idle(client)
    for question in QUESTIONS:
        body = {**whose, "query": question}
        for as_of in (None, *EDGES):
            at = {} if as_of is None else {"as_of": as_of}
            for path in ("/search", "/context"):
                response = await client.post(
                    path, json={**body, **(at if path == "/search" else {})}
                )
                assert response.status_code < 500, (path, question, as_of, response.text)
    for block_id in stored:
        for path in (f"/blocks/{block_id}", f"/blocks/{block_id}/relations"):
            response = await client.get(path, params=whose)
            assert response.status_code == 200, (path, response.text)
    for path in ("/blocks", "/summaries", "/relations"):
        response = await client.get(path, params=whose)
        assert response.status_code < 500, (path, response.text)
