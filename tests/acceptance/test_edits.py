"""Blocks after they were accepted: edited, deleted, with their history."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.support.service import all_blocks, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")


def user() -> str:
    return f"user-{uuid4()}"


class Blocks:
    """One user's blocks."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.user_id = user()
        self.whose = {"user_id": self.user_id}

    async def accept(self, content: str, **more: Any) -> str:
        body = {**self.whose, "content": content, **more}
        response = await self.client.post("/blocks", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def read(self, block_id: str) -> dict[str, Any]:
        response = await self.client.get(f"/blocks/{block_id}", params=self.whose)
        block: dict[str, Any] = response.json()
        assert response.headers["etag"] == f'"{block["revision"]}"'
        return block

    async def edit(self, block_id: str, body: Any, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.patch(
            f"/blocks/{block_id}", params=self.whose, json=body, headers=named
        )

    async def delete(self, block_id: str, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.delete(f"/blocks/{block_id}", params=self.whose, headers=named)

    async def revisions(self, block_id: str) -> list[dict[str, Any]]:
        path, found, cursor = f"/blocks/{block_id}/revisions", [], None
        while True:
            params = {**self.whose, "limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await self.client.get(path, params=params)).json()
            found += page["revisions"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def found(self, query: str) -> list[str]:
        response = await self.client.post("/search", json={**self.whose, "query": query})
        return [hit["block"]["content"] for hit in response.json()["results"]]


@pytest.fixture
def blocks(client: httpx2.AsyncClient) -> Blocks:
    return Blocks(client)


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_an_edit_is_found_at_once_and_enriched_anew(blocks: Blocks) -> None:
    block_id = await blocks.accept("The piano tuner comes on Monday.", metadata={"a": 1})
    await until_idle(blocks.client)
    before = await blocks.read(block_id)
    assert (before["status"], before["revision"]) == ("active", 1)

    response = await blocks.edit(block_id, {"content": "The zither tuner comes on Friday."})
    assert response.status_code == 200, response.text
    edited = response.json()
    assert (edited["status"], edited["revision"], edited["title"]) == (
        "pending_enrichment",
        2,
        None,
    )
    assert response.headers["etag"] == '"2"'
    assert await blocks.found("zither") == ["The zither tuner comes on Friday."]

    await until_idle(blocks.client)
    after = await blocks.read(block_id)
    assert after["status"] == "active"
    assert "zither" in after["summary"].lower()
    assert after["metadata"] == {"a": 1}
    assert after["created_at"] == before["created_at"]
    assert await blocks.found("piano") in ([], ["The zither tuner comes on Friday."])
    (revision,) = await blocks.revisions(block_id)
    assert (revision["revision"], revision["reason"]) == (1, "edit")
    assert revision["before"]["content"] == "The piano tuner comes on Monday."
    assert revision["before"]["title"] == before["title"]


async def test_an_edit_of_other_fields_needs_no_enrichment(blocks: Blocks) -> None:
    block_id = await blocks.accept("Keys are under the mat.", session_id="one", source="chat")
    await until_idle(blocks.client)
    before = await blocks.read(block_id)
    changes = {"session_id": "two", "source": None, "metadata": {"deep": {"er": [1, 2.5, None]}}}
    assert (await blocks.edit(block_id, changes)).status_code == 200
    after = await blocks.read(block_id)
    assert {name: after[name] for name in changes} == changes
    assert (after["status"], after["title"]) == ("active", before["title"])
    again = await blocks.edit(block_id, changes)
    assert again.json()["revision"] == 2, "what changes nothing makes no revision"


async def test_an_edit_holds_the_revision_it_was_made_for(blocks: Blocks) -> None:
    block_id = await blocks.accept("Version one.")
    assert (await blocks.edit(block_id, {"content": "Version two."}, If_Match='"1"')).is_success
    stale = await blocks.edit(block_id, {"content": "Version three."}, If_Match='"1"')
    assert code(stale) == (412, "revision_mismatch")
    assert code(await blocks.delete(block_id, If_Match='"1"')) == (412, "revision_mismatch")
    for never in ('W/"2"', '"two"', '""', '"99999999999999999999"'):
        assert code(await blocks.edit(block_id, {"speaker": "x"}, If_Match=never))[0] == 412, never
    for wrong in ("2", '"1", "2"', '"'):
        response = await blocks.edit(block_id, {"speaker": "x"}, If_Match=wrong)
        assert code(response) == (422, "if_match_invalid"), wrong
    assert (await blocks.read(block_id))["content"] == "Version two."
    assert (await blocks.edit(block_id, {"content": "Any."}, If_Match="*")).is_success
    assert (await blocks.delete(block_id, If_Match='"3"')).status_code == 204


async def test_parallel_edits_are_all_made_and_all_kept(blocks: Blocks) -> None:
    block_id = await blocks.accept("Number 0.")
    responses = await asyncio.gather(
        *(blocks.edit(block_id, {"source": f"s{n}"}, If_Match='"1"') for n in range(20))
    )
    assert sorted(response.status_code for response in responses) == [200] + [412] * 19
    free = await asyncio.gather(*(blocks.edit(block_id, {"agent_id": f"a{n}"}) for n in range(4)))
    assert {response.status_code for response in free} <= {200, 503}
    done = sum(response.status_code == 200 for response in free)
    assert len(await blocks.revisions(block_id)) == 1 + done


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "changes_missing")),
        ({"content": None}, (422, "string_type")),
        ({"content": " "}, (422, "text_blank")),
        ({"content": "a\x00"}, (422, "text_nul")),
        ({"occurred_at": None}, (422, "datetime_type")),
        ({"title": "mine"}, (422, "extra_forbidden")),
        ({"metadata": {"n": 2**70}}, (422, "number_too_large")),
        ([], (422, "model_attributes_type")),
    ],
)
async def test_a_bad_edit_changes_nothing(
    blocks: Blocks, body: Any, expected: tuple[int, str]
) -> None:
    block_id = await blocks.accept("As it was.")
    response = await blocks.edit(block_id, body)
    problem = response.json()
    codes = {problem["code"], *(error["code"] for error in problem["errors"])}
    assert response.status_code == expected[0]
    assert expected[1] in codes
    assert (await blocks.read(block_id))["revision"] == 1


async def test_a_deleted_block_is_gone_from_every_response(blocks: Blocks) -> None:
    kept, gone = await blocks.accept("A kept note."), await blocks.accept("A note about quokkas.")
    await until_idle(blocks.client)
    assert (await blocks.delete(gone)).status_code == 204
    path = f"/blocks/{gone}"
    for response in (
        await blocks.client.get(path, params=blocks.whose),
        await blocks.client.get(f"{path}/revisions", params=blocks.whose),
        await blocks.edit(gone, {"content": "Back?"}),
        await blocks.delete(gone),
    ):
        assert code(response) == (404, "block_not_found")
    assert [block["id"] for block in await all_blocks(blocks.client, blocks.user_id)] == [kept]
    assert "A note about quokkas." not in await blocks.found("quokkas")


async def test_a_late_repetition_does_not_bring_a_deleted_block_back(blocks: Blocks) -> None:
    body = {**blocks.whose, "content": "Sent by an impatient client."}
    headers = {"Idempotency-Key": "first"}
    first = await blocks.client.post("/blocks", json=body, headers=headers)
    await blocks.delete(first.json()["id"])
    late = await blocks.client.post("/blocks", json=body, headers=headers)
    assert (late.status_code, late.json()) == (202, first.json())
    assert await all_blocks(blocks.client, blocks.user_id) == []
    other = await blocks.client.post("/blocks", json={**body, "content": "x"}, headers=headers)
    assert code(other) == (422, "idempotency_key_reused")


async def test_an_edit_with_a_key_is_made_once(blocks: Blocks) -> None:
    block_id = await blocks.accept("Zero.")
    body = {"content": "One."}
    responses = await asyncio.gather(
        *(blocks.edit(block_id, body, Idempotency_Key="e1") for _ in range(50))
    )
    assert {response.status_code for response in responses} == {200}
    assert len({response.text for response in responses}) == 1
    assert {response.headers["etag"] for response in responses} == {'"2"'}
    assert len({response.headers["x-request-id"] for response in responses}) == 50
    await blocks.edit(block_id, {"content": "Two."})
    late = await blocks.edit(block_id, body, Idempotency_Key="e1")
    assert late.text == responses[0].text
    assert (await blocks.read(block_id))["content"] == "Two."
    other = await blocks.edit(block_id, {"content": "Three."}, Idempotency_Key="e1")
    assert code(other) == (422, "idempotency_key_reused")
    for bad in ("", "x" * 257):
        assert (await blocks.edit(block_id, body, Idempotency_Key=bad)).status_code == 422


async def test_a_repeated_deletion_with_a_key_returns_the_same_response(blocks: Blocks) -> None:
    block_id = await blocks.accept("Short lived.")
    responses = [await blocks.delete(block_id, Idempotency_Key="d1") for _ in range(2)]
    assert [response.status_code for response in responses] == [204, 204]
    assert (await blocks.delete(block_id, Idempotency_Key="d2")).status_code == 404


async def test_a_cursor_is_good_for_its_own_list_only(
    blocks: Blocks, client: httpx2.AsyncClient
) -> None:
    other = Blocks(client)
    for owner in (blocks, other):
        for n in range(3):
            await owner.accept(f"note {n}")
    page = (await client.get("/blocks", params={**blocks.whose, "limit": "1"})).json()
    cursor = page["next_cursor"]
    assert (await client.get("/blocks", params={**blocks.whose, "cursor": cursor})).is_success
    changed = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]
    block_id = page["blocks"][0]["id"]
    for path, params in (
        ("/blocks", {**other.whose, "cursor": cursor}),
        ("/blocks", {**blocks.whose, "cursor": changed}),
        ("/jobs", {**blocks.whose, "cursor": cursor}),
        (f"/blocks/{block_id}/revisions", {**blocks.whose, "cursor": cursor}),
    ):
        assert code(await client.get(path, params=params)) == (422, "bad_cursor"), path
