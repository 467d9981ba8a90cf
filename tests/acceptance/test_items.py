"""Items through both clients of the SDK, against a real service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.service import until_idle

from luma_memory.client import (
    AsyncMemoryClient,
    Conflict,
    Forbidden,
    Invalid,
    MemoryClient,
    PreconditionFailed,
)
from luma_memory.domain.item import VALUE_BYTES_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(tmp_path_factory.mktemp("items") / "data") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(api: KeyedService) -> str:
    return await api.key("ingest", "read", "admin")


@pytest_asyncio.fixture(loop_scope="module")
async def memory(api: KeyedService, key: str) -> AsyncIterator[AsyncMemoryClient]:
    async with AsyncMemoryClient(api.stack.base_url, api_key=key) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def http(api: KeyedService, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client(key) as client:
        yield client


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"


VALUES: list[Any] = [
    {"text": "naïve 🐈 \\ \" '' %s $1", "": {"a.b": [1, -2.5, True, None, {}]}},
    [],
    None,
    "text",
    0.1,
    2**63 - 1,
    {},
]


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_comes_back_as_it_was_sent(
    memory: AsyncMemoryClient, user: str, value: Any
) -> None:
    written = await memory.put_item(["a", "*", " "], "k/1 é", value, user_id=user)
    item = await memory.get_item(["a", "*", " "], "k/1 é", user_id=user)
    assert item is not None
    assert (item.value, item.namespace, item.key) == (value, ["a", "*", " "], "k/1 é")
    assert written.outcome == "created"
    assert item.etag == written.etag
    assert await memory.get_item(["a", "*"], "k/1 é", user_id=user) is None
    assert await memory.get_item(["a", "*", " "], "k/1 é", user_id="other") is None


async def test_a_replaced_item_keeps_its_place_and_has_a_revision(
    memory: AsyncMemoryClient, user: str
) -> None:
    first = await memory.put_item(["n"], "one", {"text": "Ada likes tea."}, user_id=user)
    await memory.put_item(["n"], "two", {"text": "Ada has a cat."}, user_id=user)
    second = await memory.put_item(["n"], "one", {"text": "Ada likes coffee."}, user_id=user)
    assert (second.outcome, second.created_at) == ("replaced", first.created_at)
    assert second.etag != first.etag
    page = await memory.search_items(["n"], user_id=user)
    assert [item.key for item in page.items] == ["two", "one"]
    revisions = (await memory.list_revisions(page.items[1].id, user_id=user)).revisions
    assert [one.before["value"] for one in revisions] == [{"text": "Ada likes tea."}]
    again = await memory.put_item(["n"], "one", {"text": "Ada likes coffee."}, user_id=user)
    assert again.etag == second.etag, "nothing has changed"


async def test_conditions_make_compare_and_set_possible(
    memory: AsyncMemoryClient, user: str
) -> None:
    put: dict[str, Any] = {"namespace": ["c"], "key": "counter", "user_id": user}
    first = await memory.put_item(value=0, if_absent=True, **put)
    with pytest.raises(Conflict) as there:
        await memory.put_item(value=5, if_absent=True, **put)
    assert there.value.code == "item_exists"
    second = await memory.put_item(value=1, etag=first.etag, **put)
    for etag in (first.etag, "nonsense"):
        with pytest.raises(PreconditionFailed) as changed:
            await memory.put_item(value=2, etag=etag, **put)
        assert changed.value.code == "item_changed"
        with pytest.raises(PreconditionFailed):
            await memory.delete_item(["c"], "counter", etag=etag, user_id=user)
    await memory.delete_item(["c"], "counter", etag=second.etag, user_id=user)
    with pytest.raises(PreconditionFailed):
        await memory.put_item(value=2, etag="*", **put)
    recreated = await memory.put_item(value=0, **put)
    assert recreated.etag != first.etag, "or an old state would be taken for the new one"
    with pytest.raises(Invalid) as both:
        await memory.put_item(value=0, if_absent=True, etag="*", **put)
    assert both.value.code == "conditions_exclusive"


async def test_concurrent_compare_and_set_counts_every_step(
    memory: AsyncMemoryClient, user: str
) -> None:
    await memory.put_item(["c"], "n", 0, user_id=user)

    async def count_up() -> None:
        while True:
            item = await memory.get_item(["c"], "n", user_id=user)
            assert item is not None
            try:
                await memory.put_item(["c"], "n", item.value + 1, etag=item.etag, user_id=user)
            except PreconditionFailed:
                continue
            return

    await asyncio.gather(*(count_up() for _ in range(12)))
    item = await memory.get_item(["c"], "n", user_id=user)
    assert item is not None
    assert item.value == 12


async def test_a_repeated_request_with_a_condition_gets_its_first_response(
    memory: AsyncMemoryClient, user: str
) -> None:
    named: dict[str, Any] = {"namespace": ["r"], "key": "k", "user_id": user}
    first = await memory.put_item(value=1, if_absent=True, idempotency_key="p", **named)
    assert await memory.put_item(value=1, if_absent=True, idempotency_key="p", **named) == first
    with pytest.raises(Invalid) as reused:
        await memory.put_item(value=2, if_absent=True, idempotency_key="p", **named)
    assert reused.value.code == "idempotency_key_reused"
    await memory.delete_item(etag=first.etag, idempotency_key="d", **named)
    await memory.delete_item(etag=first.etag, idempotency_key="d", **named)
    assert await memory.put_item(value=1, if_absent=True, idempotency_key="p", **named) == first
    assert await memory.get_item(["r"], "k", user_id=user) is None


async def test_200_appenders_lose_and_reorder_nothing(
    api: KeyedService, key: str, memory: AsyncMemoryClient, user: str
) -> None:
    """Each appender's own items are in its order, and a reader sees prefixes only."""
    namespace = ["sessions", "s1"]

    async def append(client: AsyncMemoryClient, name: int) -> None:
        for n in range(3):
            await client.put_item(
                namespace, f"{name}-{n}", [name, n], user_id=user, if_absent=True, index=False
            )

    async with AsyncMemoryClient(api.stack.base_url, api_key=key, connections_max=100) as client:
        writers = asyncio.gather(*(append(client, name) for name in range(200)))
        seen: list[list[str]] = []
        while not writers.done():
            found = memory.iterate_items(
                namespace, user_id=user, exact=True, order="oldest", page_size=1000
            )
            seen.append([item.key async for item in found])
        await writers
    items = [
        item
        async for item in memory.iterate_items(
            namespace, user_id=user, exact=True, order="oldest", page_size=70
        )
    ]
    keys = [item.key for item in items]
    assert sorted(keys) == sorted(f"{name}-{n}" for name in range(200) for n in range(3))
    for name in range(200):
        assert [v[1] for v in (item.value for item in items) if v[0] == name] == [0, 1, 2]
    assert len(seen) > 1
    assert all(keys[: len(earlier)] == earlier for earlier in seen)


async def test_filters_prefixes_orders_and_pages(memory: AsyncMemoryClient, user: str) -> None:
    for n in range(6):
        value = {"n": n, "kind": "even" if n % 2 == 0 else "odd", "a": {"b": n, "c": None}}
        await memory.put_item(["f", str(n % 3)], f"k{n}", value, user_id=user)

    async def keys(prefix: list[str] = ["f"], **more: Any) -> list[str]:  # noqa: B006
        page = await memory.search_items(prefix, user_id=user, limit=100, **more)
        return [item.key for item in page.items]

    assert await keys() == ["k5", "k4", "k3", "k2", "k1", "k0"]
    assert await keys(order="oldest", offset=4) == ["k4", "k5"]
    assert await keys(["f", "1"]) == ["k4", "k1"]
    assert await keys(["f"], exact=True) == []
    assert await keys(["f", "1"], exact=True) == ["k4", "k1"]
    assert await keys(filter={"kind": "even", "n": {"$gt": 0}}) == ["k4", "k2"]
    assert await keys(filter={"n": {"$gte": 2, "$lt": 4}}) == ["k3", "k2"]
    assert await keys(filter={"n": {"$ne": 5}, "a": {"b": {"$lte": 1}}}) == ["k1", "k0"]
    assert await keys(filter={"a": {"c": None}, "missing": None, "n": {"$eq": 3}}) == ["k3"]
    assert await keys(filter={"n": "3"}) == []
    assert await keys(filter={"kind": {"$gt": 1}}) == [], "texts are not compared with numbers"
    for wrong in ({"n": {"$in": [1]}}, {"n": {"$gt": None}}, {"n": {"$gt": 1, "x": 2}}):
        with pytest.raises(Invalid) as error:
            await keys(filter=wrong)
        assert error.value.code == "invalid_filter"
    listed = [item.key async for item in memory.iterate_items(["f"], user_id=user, page_size=4)]
    assert listed == ["k5", "k4", "k3", "k2", "k1", "k0"]


async def test_namespaces(memory: AsyncMemoryClient, user: str) -> None:
    for labels in (["a", "b", "c"], ["a", "b", "d"], ["a", "x"], ["z", "b", "c", "y"]):
        await memory.put_item(labels, "k", 1, user_id=user)

    async def names(**request: Any) -> list[list[str]]:
        return (await memory.list_namespaces(user_id=user, **request)).namespaces

    assert await names(prefix=["a"]) == [["a", "b", "c"], ["a", "b", "d"], ["a", "x"]]
    assert await names(prefix=["*", "b"], suffix=["c"]) == [["a", "b", "c"]]
    assert await names(suffix=["c", "*"]) == [["z", "b", "c", "y"]]
    assert await names(max_depth=2) == [["a", "b"], ["a", "x"], ["z", "b"]]
    page = await memory.list_namespaces(user_id=user, max_depth=2, limit=2)
    assert page.next_offset == 2
    assert await names(max_depth=2, limit=2, offset=2) == [["z", "b"]]


async def test_a_batch_is_in_order_and_each_operation_has_its_own_outcome(
    memory: AsyncMemoryClient, user: str
) -> None:
    at: dict[str, Any] = {"namespace": ["b"], "key": "k"}
    response = await memory.batch_items(
        [
            {"op": "get", **at},
            {"op": "put", **at, "value": 1},
            {"op": "get", **at},
            {"op": "put", **at, "value": 2, "if_absent": True},
            {"op": "put", "namespace": [], "key": "k", "value": 2},
            {"op": "delete", **at},
            {"op": "put", **at, "value": {"text": "three"}},
            {"op": "put", **at, "value": {"text": "four"}},
            {"op": "search", "prefix": ["b"]},
            {"op": "namespaces"},
            {"op": "delete", **at, "if_match": "none"},
            {"op": "unknown"},
        ],
        user_id=user,
    )
    results = response.results
    assert results[0].item is None
    assert [one.written and one.written.outcome for one in results] == [
        *(None, "created", None, None, None, "deleted", "created", "replaced"),
        *(None, None, None, None),
    ]
    assert results[2].item is not None
    assert results[2].item.value == 1
    codes = [one.error and one.error.code for one in results]
    assert codes[3] == "item_exists"
    assert codes[10] == "item_changed"
    assert all(codes[n] for n in (4, 11))
    assert results[8].page is not None
    assert [item.value for item in results[8].page.items] == [{"text": "four"}]
    assert results[9].namespaces is not None
    assert results[9].namespaces.namespaces == [["b"]]


async def test_items_are_found_by_meaning_but_not_among_blocks(
    memory: AsyncMemoryClient, http: httpx2.AsyncClient, user: str
) -> None:
    texts = {
        "pet": "The cat sleeps on the sofa all day.",
        "car": "The engine of the car needs new oil.",
        "food": "Pasta with tomato sauce is her favourite dinner.",
    }
    for name, text in texts.items():
        value = {"text": text, "secret": "zebra"}
        await memory.put_item(["m", name], name, value, user_id=user, index=["text"])
    await memory.put_item(["m", "none"], "none", {"text": "feline"}, user_id=user, index=False)
    # By its words at once, by its meaning when it is embedded.
    found = await memory.search_items(["m"], user_id=user, query="tomato sauce", limit=1)
    assert [item.key for item in found.items] == ["food"]
    await until_idle(http)
    best = await memory.search_items(["m"], user_id=user, query="feline animal", limit=1)
    assert [item.key for item in best.items] == ["pet"]
    assert best.items[0].score is not None
    only = await memory.search_items(["m", "car"], user_id=user, query="feline animal")
    assert [item.key for item in only.items] == ["car"]
    filtered = await memory.search_items(
        ["m"], user_id=user, query="feline animal", filter={"text": texts["food"]}
    )
    assert [item.key for item in filtered.items] == ["food"]
    everything = await memory.search_items(["m"], user_id=user, query="feline", limit=10)
    assert {item.key for item in everything.items} == set(texts)

    assert (await memory.search("cat on the sofa", user_id=user)).results == []
    assert (await memory.get_context("cat on the sofa", user_id=user)).blocks == []
    assert (await memory.list_blocks(user)).blocks == []
    hits = (await memory.search("cat on the sofa", user_id=user, include_items=True)).results
    assert (hits[0].block.namespace, hits[0].block.key) == (["m", "pet"], "pet")
    context = await memory.get_context("cat on the sofa", user_id=user, include_items=True)
    assert context.blocks[0].content == texts["pet"]
    with pytest.raises(Conflict) as item:
        await memory.edit_block(hits[0].block.id, {"content": "x"}, user_id=user)
    assert item.value.code == "block_is_item"


async def test_an_expired_item_is_gone_for_every_read(memory: AsyncMemoryClient, user: str) -> None:
    text = {"text": "umbrella"}
    await memory.put_item(["t"], "stays", text, user_id=user)
    await memory.put_item(["t"], "read", text, user_id=user, ttl_seconds=600, refresh_on_read=True)
    await memory.put_item(["t"], "plain", text, user_id=user, ttl_seconds=600)
    before = await memory.get_item(["t"], "plain", user_id=user)
    assert before is not None
    again = await memory.get_item(["t"], "plain", user_id=user)
    assert again is not None
    assert again.expires_at == before.expires_at
    first = await memory.get_item(["t"], "read", user_id=user)
    second = await memory.get_item(["t"], "read", user_id=user)
    third = await memory.get_item(["t"], "read", user_id=user, refresh_ttl=False)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.expires_at is not None
    assert second.expires_at is not None
    assert second.expires_at > first.expires_at
    assert third.expires_at == second.expires_at
    page = await memory.search_items(["t"], user_id=user, refresh_ttl=True)
    assert all(i.expires_at is None or i.expires_at > second.expires_at for i in page.items)

    gone = {"op": "put", "namespace": ["g"], "key": "k", "value": text, "ttl_seconds": 0.001}
    await memory.batch_items([gone], user_id=user)
    await asyncio.sleep(0.01)
    assert await memory.get_item(["g"], "k", user_id=user) is None
    assert (await memory.search_items(["g"], user_id=user)).items == []
    assert (await memory.search_items(["g"], user_id=user, query="umbrella")).items == []
    assert (await memory.list_namespaces(user_id=user, prefix=["g"])).namespaces == []
    created = await memory.put_item(["g"], "k", 1, user_id=user, if_absent=True)
    assert created.outcome == "created"


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": []},
        {"namespace": ["x"] * 17},
        {"namespace": [""]},
        {"namespace": ["x" * 129]},
        {"namespace": ["a\x00"]},
        {"key": ""},
        {"key": "x" * 257},
        {"value": {"text": "a\x00"}},
        {"value": {"text": "\ud800"}},
        {"value": 2**63},
        {"value": 1e300},
        {"value": "x" * VALUE_BYTES_MAX},
        {"index": ["a..b"]},
        {"index": [""]},
        {"ttl_seconds": 0},
        {"ttl_seconds": 1e12},
    ],
)
async def test_what_cannot_be_stored_is_refused(
    memory: AsyncMemoryClient, user: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        await memory.put_item(
            **{"namespace": ["a"], "key": "k", "value": 1, "user_id": user, **wrong}
        )
    assert (await memory.search_items(user_id=user)).items == []


async def test_the_largest_value_and_the_longest_names(
    memory: AsyncMemoryClient, user: str
) -> None:
    value = "é" * (VALUE_BYTES_MAX // 2 - 1)
    namespace, key = ["🐈" * 128] * 16, "🐈" * 256
    await memory.put_item(namespace, key, value, user_id=user, index=False)
    item = await memory.get_item(namespace, key, user_id=user)
    assert item is not None
    assert item.value == value


async def test_items_are_exported_imported_and_erased(
    api: KeyedService, key: str, memory: AsyncMemoryClient, user: str
) -> None:
    await memory.put_item(["e", "x"], "k", {"text": "kept"}, user_id=user)
    lines = [line async for line in memory.export_user(user)]
    other = f"user-{uuid4()}"

    async def content() -> AsyncIterator[Any]:
        for line in lines:
            yield line

    await memory.import_user(other, content())
    for owner in (user, other):
        item = await memory.get_item(["e", "x"], "k", user_id=owner)
        assert item is not None
        assert item.value == {"text": "kept"}
        found = await memory.search_items(["e"], user_id=owner, query="kept")
        assert [one.key for one in found.items] == ["k"]
    await memory.erase_user(user)
    assert (await memory.search_items(user_id=user)).items == []
    assert len((await memory.search_items(user_id=other)).items) == 1


async def test_reads_and_writes_need_their_permissions(api: KeyedService, user: str) -> None:
    for permission in ("ingest", "read"):
        async with AsyncMemoryClient(
            api.stack.base_url, api_key=await api.key(permission)
        ) as client:
            write = client.batch_items(
                [{"op": "put", "namespace": ["p"], "key": "k", "value": 1}], user_id=user
            )
            read = client.search_items(user_id=user)
            both = client.batch_items([{"op": "namespaces"}], user_id=user)
            outcomes = await asyncio.gather(write, read, both, return_exceptions=True)
            refused = [isinstance(outcome, Forbidden) for outcome in outcomes]
            assert refused == (
                [False, True, True] if permission == "ingest" else [True, False, True]
            )


async def test_the_synchronous_client(api: KeyedService, key: str, user: str) -> None:
    def use() -> list[Any]:
        with MemoryClient(api.stack.base_url, api_key=key) as client:
            client.put_item(["s"], "k", {"a": 1}, user_id=user)
            return [item.value for item in client.iterate_items(["s"], user_id=user)]

    assert await asyncio.to_thread(use) == [{"a": 1}]


QUERIES = (
    "namespace=a&key=k", "namespace=a&namespace=b%20%2F&key=%C3%A9", "namespace=a&key=missing",
    "namespace=a", "namespace=&key=k", "namespace=a&key=k&key=k", "namespace=a&key=k&unknown=1",
    "namespace=a&key=%00", "namespace=a&key=", "key=k", "namespace=a&key=k&user_id=other",
    *(["&".join(["namespace=a"] * 17) + "&key=k"]),
)  # fmt: skip
BODIES: tuple[Any, ...] = (
    {"namespace": ["a"], "key": "k", "value": {"text": "one"}},
    {"namespace": ["a"], "key": "k", "value": {"text": "one"}, "if_absent": True},
    {"namespace": ["a", "b /"], "key": "é", "value": [1, None], "index": False},
    {"namespace": [], "key": "k", "value": 1},
    {"namespace": ["a"], "key": "k"},
    {"namespace": ["a"], "key": "k", "value": 1, "more": 2},
    {"namespace": ["a"], "key": 3, "value": 1},
    [],
    "{",
    '{"user_id": 1, "user_id": 2}',
)


@pytest.mark.parametrize("framed", [False, True], ids=["shortcut", "framework"])
async def test_a_shortcut_responds_as_the_framework(
    framed: bool, http: httpx2.AsyncClient, user: str, snapshots_of_responses: dict[str, Any]
) -> None:
    """An uncommon content type or a further parameter keeps a request from the shortcut."""
    kind = "application/json; charset=utf-8" if framed else "application/json"
    more = "&refresh_ttl=false" if framed else ""
    found: list[Any] = []
    for method, path, wrap in (
        ("PUT", "/items", lambda body: body),
        ("POST", "/items/batch", lambda body: {"operations": [{"op": "put", **body}]}),
    ):
        for body in BODIES:
            if isinstance(body, dict):
                body = {"user_id": user, **wrap(body)}
            content = body if isinstance(body, str) else json.dumps(body)
            headers = {"Content-Type": kind, "Idempotency-Key": f"{user}-{len(found)}"}
            response = await http.request(method, path, content=content, headers=headers)
            found.append(_comparable(response, user))
    for query in QUERIES:
        response = await http.get(f"/items?user_id={user}&{query}{more}")
        found.append(_comparable(response, user))
    assert found == snapshots_of_responses.setdefault("first", found)


@pytest.fixture(scope="module")
def snapshots_of_responses() -> dict[str, Any]:
    return {}


def _comparable(response: httpx2.Response, user: str) -> tuple[int, str | None, Any]:
    """Without what differs between equal requests: ids, times, the user."""
    text = response.text.replace(user, "USER")
    for pattern in (r'"\w+_at":"[^"]*"', r'"(?:id|request_id)":"[^"]*"', r"[0-9a-f]{32}-"):
        text = re.sub(pattern, "-", text)
    return response.status_code, response.headers.get("Content-Type"), text
