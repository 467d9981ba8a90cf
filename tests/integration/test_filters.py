"""What a filter lets through is what it says, worked out the long way, and never another's."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from operator import ge, gt, le, lt
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest

from luma_memory.domain.block import Block
from luma_memory.domain.filters import Combined, Comparison, Filter, Negated, parse_filter
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block

pytestmark = every_postgres

CAROLINE = Scope("default", "caroline")
SOURCES = (None, "slack", "mail")
TAGS = ("cat", "dog", "sea", "quo'te")
METADATA: Sequence[Mapping[str, Any]] = (
    {},
    {"team": "blue", "n": 3},
    {"team": "red", "n": 10, "deep": {"x": "y"}},
    {"team": ["blue", "red"], "n": "3"},
    {"team": None, "n": 2.5, "on": True},
)
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


async def _blocks(database: Database, connection: asyncpg.Connection) -> list[Block]:
    dice = random.Random(4)
    new = [
        new_block(
            f"A note about the cat, number {number}",
            source=dice.choice(SOURCES),
            session_id=dice.choice((None, "s1", "s2")),
            metadata=dice.choice(METADATA),
            occurred_at=OCCURRED_AT + timedelta(days=number),
        )
        for number in range(40)
    ]
    accepted = await ingest(database, *new)
    for response in accepted:
        await connection.execute(
            "UPDATE memory_blocks SET tags = $2, importance = $3 WHERE id = $1",
            response.id,
            dice.sample(TAGS, dice.randrange(3)),
            dice.choice((None, 0.25, 0.75)),
        )
    await ingest(database, new_block("The cat of another", user_id="melanie", source="slack"))
    store = PostgresBlockStore(database, attempts_max=3)
    found = await store.read([(CAROLINE, response.id) for response in accepted])
    return [block for block in found if block is not None]


def _recall(database: Database) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=None,
        emit=EventLog(),
    )


async def _found(recall: Recall, tree: Filter) -> set[UUID]:
    result = await recall.search(
        SearchRequest(scope=CAROLINE, query="the cat note", limit=200, filters=tree)
    )
    return {hit.block.id for hit in result.hits}


def holds(tree: Filter, block: Block) -> bool:
    """The meaning of a filter, in the plainest words."""
    match tree:
        case Negated():
            return not holds(tree.part, block)
        case Combined("AND", parts):
            return all(holds(part, block) for part in parts)
        case Combined(_, parts):
            return any(holds(part, block) for part in parts)
        case Comparison(field="tags"):
            return _tags_hold(tree, block.tags)
        case Comparison():
            return _holds(tree, _value(tree, block))


def _value(comparison: Comparison, block: Block) -> Any:
    if comparison.field != "metadata":
        return getattr(block, comparison.field)
    value: Any = block.metadata
    for step in comparison.path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _tags_hold(comparison: Comparison, tags: Sequence[str]) -> bool:
    match comparison.operator:
        case "exists":
            return bool(tags) is bool(comparison.value)
        case "in" | "nin":
            return bool(set(tags) & set(comparison.value)) == (comparison.operator == "in")
        case _:
            return comparison.value in tags


def _holds(comparison: Comparison, value: Any) -> bool:
    given = comparison.value
    match comparison.operator:
        case "eq" | "ne":
            return _same(value, given) == (comparison.operator == "eq")
        case "in" | "nin":
            is_in = any(_same(value, entry) for entry in given)
            return is_in == (comparison.operator == "in")
        case "contains":
            return any(_same(v, given) for v in (value if isinstance(value, list) else [value]))
        case "exists":
            return (value is not None) is bool(given)
        case _:
            if _kind(value) != _kind(given):
                return False
            return _COMPARED[comparison.operator](value, given)


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _same(value: Any, given: Any) -> bool:
    return _kind(value) == _kind(given) and bool(value == given)


def _some_comparison(dice: random.Random) -> dict[str, Any]:
    at = (OCCURRED_AT + timedelta(days=dice.randrange(40))).isoformat()
    ordered = dice.choice(("gt", "gte", "lt", "lte"))
    return dice.choice(
        [
            {"source": dice.choice(SOURCES)},
            {"source": {"ne": dice.choice(SOURCES)}},
            {"source": {dice.choice(("in", "nin")): ["slack", "x"]}},
            {"source": {"exists": dice.random() < 0.5}},
            {"session_id": {ordered: "s1"}},
            {"tags": dice.choice(TAGS)},
            {"tags": {dice.choice(("in", "nin")): dice.sample(TAGS, 2)}},
            {"tags": {"exists": dice.random() < 0.5}},
            {"importance": {ordered: 0.5}},
            {"importance": {dice.choice(("eq", "ne")): dice.choice((None, 0.25))}},
            {"occurred_at": {ordered: at}},
            {"metadata.team": dice.choice(("blue", "red", None))},
            {"metadata.team": {"contains": "blue"}},
            {"metadata.team": {dice.choice(("in", "nin")): ["blue", 3]}},
            {"metadata.n": {ordered: dice.choice((3, 2.5, "3", -1))}},
            {"metadata.n": {"ne": 3}},
            {"metadata.deep.x": "y"},
            {"metadata.on": dice.choice((True, False))},
        ]
    )


def _some_filter(dice: random.Random, depth: int = 3) -> dict[str, Any]:
    if depth == 0 or dice.random() < 0.4:
        return _some_comparison(dice)
    kind = dice.choice(("AND", "OR", "NOT", "both"))
    if kind == "NOT":
        return {"NOT": _some_filter(dice, depth - 1)}
    if kind == "both":
        return _some_comparison(dice) | {"NOT": _some_filter(dice, depth - 1)}
    return {kind: [_some_filter(dice, depth - 1) for _ in range(dice.randrange(4))]}


async def test_random_filters_let_through_what_they_say(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks, recall, dice = await _blocks(database, connection), _recall(database), random.Random(9)
    let_through = 0
    for _ in range(120):
        document = _some_filter(dice)
        tree = parse_filter(document)
        expected = {block.id for block in blocks if holds(tree, block)}
        assert await _found(recall, tree) == expected, document
        let_through += len(expected)
    assert 0.2 < let_through / (120 * len(blocks)) < 0.8  # neither all nor nothing was tried


@pytest.mark.parametrize("value", ["' OR true --", "$1", "%", "\\", "'); DROP TABLE x; --"])
async def test_no_text_of_a_filter_is_read_as_a_statement(
    value: str, database: Database, connection: asyncpg.Connection
) -> None:
    blocks = await _blocks(database, connection)
    for document in ({"source": value}, {"tags": value}, {f"metadata.{value}": value}):
        assert await _found(_recall(database), parse_filter(document)) == set()
    everything = parse_filter({"OR": [{"source": {"ne": value}}, {"metadata.x": value}]})
    assert await _found(_recall(database), everything) == {block.id for block in blocks}


async def test_time_is_compared_as_an_instant_and_as_of_still_holds(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks, recall = await _blocks(database, connection), _recall(database)
    as_of = OCCURRED_AT + timedelta(days=10)
    since = parse_filter({"occurred_at": {"gte": (as_of - timedelta(days=3)).isoformat()}})
    result = await recall.search(
        SearchRequest(scope=CAROLINE, query="the cat", limit=50, filters=since, as_of=as_of)
    )
    assert {hit.block.occurred_at for hit in result.hits} == {
        OCCURRED_AT + timedelta(days=day) for day in (7, 8, 9, 10)
    }
    assert len(blocks) == 40
