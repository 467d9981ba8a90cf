"""The day of a block is the sender's: its time is stored in UTC, its offset beside it."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.support.service import until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def stored(client: httpx2.AsyncClient, **block: str) -> dict[str, Any]:
    sent = await client.post("/blocks", json={"user_id": "mika"} | block)
    assert sent.status_code == 202, sent.text
    await until_idle(client)
    return await read(client, sent.json()["id"])


async def read(client: httpx2.AsyncClient, block_id: str) -> dict[str, Any]:
    response = await client.get(f"/blocks/{block_id}", params={"user_id": "mika"})
    body: dict[str, Any] = response.json()
    return body


def dates(block: dict[str, Any]) -> list[str]:
    return [entity["value"] for entity in block["entities"] if entity["kind"] == "date"]


@pytest.mark.parametrize(
    ("sent", "utc", "day"),
    [
        ("2026-03-02T06:00:00+09:00", "2026-03-01T21:00:00Z", "2026-03-02"),
        ("2026-03-02T20:00:00-08:00", "2026-03-03T04:00:00Z", "2026-03-02"),
        ("2026-03-02T00:10:00+05:45", "2026-03-01T18:25:00Z", "2026-03-02"),
        ("2026-03-02T06:00:00Z", "2026-03-02T06:00:00Z", "2026-03-02"),
        ("2026-03-02T06:00:00", "2026-03-02T06:00:00Z", "2026-03-02"),
    ],
)
async def test_today_is_the_senders_day(
    client: httpx2.AsyncClient, sent: str, utc: str, day: str
) -> None:
    block = await stored(client, content="The boiler broke today.", occurred_at=sent)
    assert block["occurred_at"] == utc
    assert dates(block) == [day]


@pytest.mark.parametrize(
    ("content", "value"),
    [("We meet a lot this month.", "2026-03"), ("Rent rose this year.", "2026")],
)
async def test_this_month_and_this_year_are_the_senders(
    client: httpx2.AsyncClient, content: str, value: str
) -> None:
    at = "2026-03-01T05:00:00+09:00" if value == "2026-03" else "2026-01-01T05:00:00+09:00"
    assert dates(await stored(client, content=content, occurred_at=at)) == [value]


async def test_an_edit_of_the_time_changes_the_day(client: httpx2.AsyncClient) -> None:
    block = await stored(
        client, content="The roof leaks today.", occurred_at="2026-03-02T06:00:00+09:00"
    )
    edited = await client.patch(
        f"/blocks/{block['id']}",
        params={"user_id": "mika"},
        json={"occurred_at": "2026-03-05T23:30:00-05:00"},
    )
    assert edited.status_code == 200, edited.text
    assert edited.json()["occurred_at"] == "2026-03-06T04:30:00Z"
    await until_idle(client)
    assert dates(await read(client, block["id"])) == ["2026-03-05"]


async def test_recall_reports_utc(client: httpx2.AsyncClient) -> None:
    block = await stored(
        client, content="The pump hums in the cellar.", occurred_at="2026-03-02T06:00:00+09:00"
    )
    question = {"user_id": "mika", "query": "Where does the pump hum?"}
    found = (await client.post("/search", json=question)).json()["results"]
    assert [
        entry["block"]["occurred_at"] for entry in found if entry["block"]["id"] == block["id"]
    ] == ["2026-03-01T21:00:00Z"]
    context = (await client.post("/context", json=question)).json()["blocks"]
    assert {entry["occurred_at"][-1] for entry in context} == {"Z"}
