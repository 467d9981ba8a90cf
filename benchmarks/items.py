"""Items: storing one beside accepting a block, and a batch of a hundred."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.chat import Turn, turns
from benchmarks.client import Connection, closed_loop, connections, expect, post, put
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.inputs import block_request
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack

USER = "items"
BATCH = 100


async def write(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One client that stores items and blocks of the same texts in turn."""
    async with connections(stack.api, 1) as (client,):
        rounds = [
            await _round(client, sizes.accepts, seed=900 + number)
            for number in range(sizes.rounds + 1)
        ][1:]  # the first fills plans and caches
        batches = [
            (await closed_loop([client], [_batch(seed=950 + n)], 200)).responses[0]
            for n in range(sizes.rounds + 1)
        ][1:]
        found = await client.ask(post("/items/search", {"user_id": USER, "limit": 1}))
        expect(found, 200)
    if len(found.json()["items"]) != 1:
        raise WrongResultError("no item is stored")
    await stack.clear()
    return [
        compared(
            "put_item_p50",
            "put an item, 1 client, p50",
            rounds,
            unit="ms",
            limit_name="accept a block",
            target=Target(1.2, "low"),
        ),
        Line(
            "put_items_batch",
            f"put {BATCH} items in a batch, p50",
            median(response.duration_ms for response in batches),
            "ms",
        ),
    ]


async def _round(client: Connection, count: int, *, seed: int) -> Round:
    """Alternate both, and which is first."""
    stored: list[float] = []
    accepted: list[float] = []
    for number, turn in enumerate(turns(count, seed=seed)):
        calls = [
            (put("/items", _item(turn, f"{seed}-{number}")), 201, stored),
            (block_request(turn, "blocks", number), 202, accepted),
        ]
        for request, status, durations in calls if number % 2 else reversed(calls):
            response = (await closed_loop([client], [request], status)).responses[0]
            durations.append(response.duration_ms)
    return Round(median(stored), median(accepted))


def _item(turn: Turn, key: str) -> dict[str, object]:
    value = {"text": turn.content, "speaker": turn.speaker}
    return {
        "user_id": USER,
        "namespace": ["chat", "bench"],
        "key": key,
        "value": value,
        "index": ["text"],
    }


def _batch(*, seed: int) -> bytes:
    operations = []
    for number, turn in enumerate(turns(BATCH, seed=seed)):
        item = _item(turn, f"{seed}-{number}")
        del item["user_id"]
        operations.append({"op": "put", **item})
    return post("/items/batch", {"user_id": USER, "operations": operations})
