"""Relations, summaries and users' settings over HTTP, with a worker of its own."""

from __future__ import annotations

from uuid import uuid4

import pytest
from tests.support.keyed_service import running_keyed_service
from tests.support.servers import Servers
from tests.support.service import until_idle

pytestmark = pytest.mark.asyncio


async def test_what_is_true_now_and_what_a_week_came_to(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_RELATIONS_ENABLED", "true")
    async with running_keyed_service(servers) as service:
        key = await service.key("ingest", "read", "admin")
        async with service.client(key) as client:
            whose = {"user_id": "ada"}
            ids = []
            for content, at in (
                ("I live in Berlin.", "2026-03-03T10:00:00Z"),
                ("I moved to Lisbon.", "2026-03-11T10:00:00Z"),
            ):
                block = {**whose, "content": content, "speaker": "Ada", "occurred_at": at}
                ids.append((await client.post("/blocks", json=block)).json()["id"])
                await until_idle(client)
            old, new = ids
            question = {**whose, "query": "Where does Ada live?"}
            now = (await client.post("/search", json=question)).json()["results"]
            assert [hit["block"]["id"] for hit in now] == [new]
            then = (
                await client.post("/search", json={**question, "as_of": "2026-03-05T00:00:00Z"})
            ).json()["results"]
            assert [hit["block"]["id"] for hit in then] == [old]
            assert then[0]["block"]["superseded_by"] == new

            page = (await client.get(f"/blocks/{old}/relations", params=whose)).json()
            (relation,) = page["relations"]
            assert (relation["type"], relation["source_id"]) == ("supersedes", new)
            path = f"/relations/{relation['id']}"
            response = await client.patch(path, params=whose, json={"status": "rejected"})
            assert response.json()["status"] == "rejected"
            again = (await client.post("/search", json=question)).json()["results"]
            assert {hit["block"]["id"] for hit in again} == {old, new}
            for wrong in ({"user_id": "bob"}, whose):
                missing = f"/relations/{uuid4()}"
                response = await client.patch(missing, params=wrong, json={"status": "accepted"})
                assert (response.status_code, response.json()["code"]) == (
                    404,
                    "relation_not_found",
                )

            user = await client.patch("/users/ada", json={"time_zone": "Asia/Kathmandu"})
            assert user.json()["time_zone"] == "Asia/Kathmandu"
            refused = await client.patch("/users/ada", json={"time_zone": "Mars/Olympus"})
            assert (refused.status_code, refused.json()["code"]) == (422, "time_zone_unknown")
            made = await client.post("/summaries", json={**whose, "week": "2026-W10"})
            assert made.status_code == 201
            assert made.json()["block_ids"] == [old]
            assert made.json()["ends_at"] == "2026-03-08T18:15:00Z"
            empty = await client.post("/summaries", json={**whose, "week": "2026-W02"})
            assert (empty.status_code, empty.json()["code"]) == (404, "week_empty")
            for week, status, code in (
                ("1900-W01", 404, "week_empty"),
                ("1899-W52", 422, "week_invalid"),
                ("0001-W01", 422, "week_invalid"),
                ("2999-W01", 422, "week_invalid"),
                ("9999-12-31", 422, "week_invalid"),
                ("2026-W60", 422, "invalid_request"),
            ):
                response = await client.post("/summaries", json={**whose, "week": week})
                assert (response.status_code, response.json()["code"]) == (status, code), week
            listed = (await client.get("/summaries", params=whose)).json()["summaries"]
            assert [summary["week"] for summary in listed] == ["2026-W10"]
            for window, count in (
                ({"since": "2026-W10", "until": "2026-W10"}, 1),
                ({"until": "2026-03-02"}, 1),  # the Monday of that week
                ({"since": "2026-W11"}, 0),
                ({"until": "2026-W09"}, 0),
            ):
                response = await client.get("/summaries", params={**whose, **window})
                assert len(response.json()["summaries"]) == count, window
            refused = await client.get("/summaries", params={**whose, "since": "March"})
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
