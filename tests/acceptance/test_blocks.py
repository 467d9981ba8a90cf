"""The life of a block through the API: accepted, readable at once, enriched, found."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx2
import pytest
from tests.support.service import all_blocks, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")


def user() -> str:
    return f"user-{uuid4()}"


async def accept(client: httpx2.AsyncClient, **block: object) -> httpx2.Response:
    return await client.post("/blocks", json=block)


async def contents(client: httpx2.AsyncClient, user_id: str, query: str) -> list[str]:
    response = await client.post("/search", json={"user_id": user_id, "query": query})
    assert response.status_code == 200, response.text
    return [hit["block"]["content"] for hit in response.json()["results"]]


async def test_an_accepted_block_is_read_and_found_in_the_very_next_request(
    client: httpx2.AsyncClient,
) -> None:
    user_id = user()
    response = await accept(client, user_id=user_id, content="The boiler's serial is KX-4471/b.")
    assert response.status_code == 202
    assert set(response.json()) == {"id", "status", "job_id"}
    assert response.json()["status"] == "pending_enrichment"

    assert await contents(client, user_id, "KX-4471/b") == ["The boiler's serial is KX-4471/b."]
    read = await client.get(f"/blocks/{response.json()['id']}", params={"user_id": user_id})
    assert read.json()["content"] == "The boiler's serial is KX-4471/b."


async def test_the_same_block_sent_again_is_the_first_one(client: httpx2.AsyncClient) -> None:
    block = {"user_id": user(), "content": "The cat is called Biscuit.", "session_id": "chat"}
    first = (await accept(client, **block)).json()
    again = await accept(client, **block)
    assert (again.status_code, again.json()) == (202, {**first, "duplicate": True})
    other = (await accept(client, **block, speaker="Ada")).json()
    assert other["id"] != first["id"]
    await until_idle(client)
    batch = [block, {**block, "content": "Another cat."}, block]
    results = (await client.post("/blocks/batch", json={"blocks": batch})).json()["results"]
    assert [result["id"] == first["id"] for result in results] == [True, False, True]
    assert [result.get("duplicate") for result in results] == [True, None, True]
    assert results[0]["status"] == "active"
    waited = await client.post("/blocks", params={"wait": "true"}, json=block)
    assert (waited.status_code, waited.json()["id"]) == (201, first["id"])
    assert waited.json()["repeat_count"] == 4
    listed = await all_blocks(client, block["user_id"])
    assert len(listed) == 3


async def test_a_worker_enriches_and_embeds_it(client: httpx2.AsyncClient) -> None:
    user_id = user()
    text = "Marta moved from Porto to Lisbon last week and her dog Rufus hates the new lift."
    response = await accept(
        client, user_id=user_id, content=text, speaker="Marta", occurred_at="2026-03-04T18:30:00Z"
    )
    await until_idle(client)
    block = (
        await client.get(f"/blocks/{response.json()['id']}", params={"user_id": user_id})
    ).json()
    assert block["status"] == "active"
    assert block["enrichment"] == "local"
    assert block["title"]
    assert block["summary"]
    assert block["language"] == "en"
    assert 0 <= block["importance"] <= 1
    names = {entity["name"]: entity for entity in block["entities"]}
    assert "Lisbon" in names
    assert names["last week"]["kind"] == "date"
    assert names["last week"]["value"].startswith("2026-02-23")
    # No word in common with the question: only its vector can find it.
    assert await contents(client, user_id, "puppy scared of elevators") == [text]


async def test_explain_names_every_part_of_the_score(client: httpx2.AsyncClient) -> None:
    user_id = user()
    await accept(client, user_id=user_id, content="Grandmother's plum cake needs cardamom.")
    await accept(client, user_id=user_id, content="The tram to the harbour runs every ten minutes.")
    await until_idle(client)
    response = await client.post(
        "/search", json={"user_id": user_id, "query": "cardamom cake", "explain": True}
    )
    first, *_ = response.json()["results"]
    assert first["block"]["content"].startswith("Grandmother")
    parts = first["explanation"]
    assert parts["dense_similarity"] > 0
    assert parts["lexical_score"] > 0
    kinds = ("dense", "lexical", "context")
    weighted = sum(parts[f"{kind}_weight"] * parts[f"{kind}_standing"] for kind in kinds)
    scale = sum(parts[f"{kind}_weight"] ** 2 for kind in kinds) ** 0.5
    own = weighted / scale + parts["speaker"] + parts["time"]
    # Alone in its session, a block is the best of it.
    assert parts["session_standing"] == pytest.approx(own, rel=1e-3)
    assert parts["standing"] == pytest.approx(own, rel=1e-3)
    assert 0 <= first["score"] <= 1


async def test_wait_returns_the_enriched_block(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/blocks",
        params={"wait": "true"},
        json={"user_id": user(), "content": "On 5 May 2023 Bob bought a bicycle in Berlin."},
    )
    assert response.status_code == 201
    assert response.json()["status"] == "active"
    assert {"name": "5 May 2023", "kind": "date", "value": "2023-05-05"} in response.json()[
        "entities"
    ]


async def test_fifty_callers_with_one_key_store_one_block(client: httpx2.AsyncClient) -> None:
    user_id = user()
    headers = {"Idempotency-Key": "order-1"}
    body = {"user_id": user_id, "content": "One order, sent by an impatient client."}
    responses = await asyncio.gather(
        *(client.post("/blocks", json=body, headers=headers) for _ in range(50))
    )
    assert {response.status_code for response in responses} == {202}
    assert len({response.text for response in responses}) == 1
    assert len(await all_blocks(client, user_id)) == 1

    other = await client.post("/blocks", json=body | {"content": "Another"}, headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"
    elsewhere = await client.post("/blocks", json=body | {"user_id": user()}, headers=headers)
    assert elsewhere.status_code == 202
    assert elsewhere.json()["id"] != responses[0].json()["id"]


async def test_the_same_external_id_gets_the_first_response(client: httpx2.AsyncClient) -> None:
    body = {"user_id": user(), "content": "Imported once.", "external_id": "mail-77"}
    first, second = [await client.post("/blocks", json=body) for _ in range(2)]
    assert first.json() == second.json()
    assert len(await all_blocks(client, str(body["user_id"]))) == 1


async def test_a_batch_returns_a_result_per_block(client: httpx2.AsyncClient) -> None:
    user_id = user()
    blocks: list[object] = [
        {"user_id": user_id, "content": "good one"},
        {"user_id": user_id, "content": "  "},
        {"user_id": user_id, "content": "nul \x00 inside"},
        {"user_id": user_id, "content": "good two", "metadata": {"tags": ["a", 1, None]}},
        {"content": "nobody's"},
        7,
    ]
    response = await client.post("/blocks/batch", json={"blocks": blocks})
    assert response.status_code == 202
    body = response.json()
    assert (body["accepted"], body["rejected"]) == (2, 4)
    codes = [result.get("error", {}).get("code") for result in body["results"]]
    assert codes == [None, "text_blank", "text_nul", None, "missing", "model_type"]
    stored = {block["content"]: block for block in await all_blocks(client, user_id)}
    assert set(stored) == {"good one", "good two"}
    assert stored["good two"]["metadata"] == {"tags": ["a", 1, None]}


async def test_no_user_sees_another_users_blocks(client: httpx2.AsyncClient) -> None:
    owner, stranger = user(), user()
    response = await accept(client, user_id=owner, content="The safe's code is 7741.")
    foreign = await client.get(f"/blocks/{response.json()['id']}", params={"user_id": stranger})
    missing = await client.get(f"/blocks/{uuid4()}", params={"user_id": stranger})
    assert foreign.status_code == missing.status_code == 404
    for problem in (foreign, missing):
        assert problem.json().pop("request_id")
    assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert await contents(client, stranger, "safe code 7741") == []
    assert await all_blocks(client, stranger) == []


async def test_pages_hold_every_block_once_newest_first(client: httpx2.AsyncClient) -> None:
    user_id = user()
    blocks = [{"user_id": user_id, "content": f"note {n}"} for n in range(450)]
    await client.post("/blocks/batch", json={"blocks": blocks})
    listed = [block["content"] for block in await all_blocks(client, user_id)]
    assert listed == [f"note {n}" for n in reversed(range(450))]


async def test_a_long_block_is_found_by_each_of_its_ends(client: httpx2.AsyncClient) -> None:
    user_id = user()
    filler = " ".join(f"Paragraph {n} speaks of nothing in particular." for n in range(2_000))
    text = f"It begins with a zeppelin. {filler} It ends with a xylophone."
    assert len(text) < 100_000
    assert (await accept(client, user_id=user_id, content=text)).status_code == 202
    for word in ("zeppelin", "xylophone"):
        assert await contents(client, user_id, word) == [text]
    await until_idle(client)
    for word in ("airship", "musical instrument with wooden bars"):
        assert await contents(client, user_id, word) == [text]


async def test_health_covers_the_whole_system(client: httpx2.AsyncClient) -> None:
    await until_idle(client)
    health = (await client.get("/health")).json()
    assert health["status"] == "ok"
    assert health["system_enabled"] is True
    assert health["worker_running"] is True
    assert set(health["queue_stats"]) == {"pending", "processing", "completed", "failed"}
    assert set(health["cache"]) == {"connected", "hit_rate"}
    assert (await client.get("/health/live")).json() == {"live": True}
    assert (await client.get("/health/ready")).json() == {"ready": True, "missing": []}
