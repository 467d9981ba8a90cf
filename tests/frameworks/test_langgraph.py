"""LumaStore and LumaRetriever with the real LangGraph and LangChain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from luma_memory.client import MemoryClient
from luma_memory.integrations.langgraph import LumaRetriever, LumaStore

# What LangGraph's stores agree on: InMemoryStore compares numbers by float(), SQLite as JSON.
# Without 0 and 1: InMemoryStore compares as Python does, where they equal False and True; in JSON
# they do not.
LABELS = st.sampled_from(["a", "b", "c", "é", "*x"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k1", "k2", "k/3", " "])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-5, -1, 2, 3]),
    st.sampled_from(["x", "y", ""]),
    st.just(0.5),
)
VALUES = st.dictionaries(
    st.sampled_from(["n", "s", "d.e"]),
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.just("i"), SCALARS)),
    max_size=3,
)
FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"s": SCALARS}),
    st.fixed_dictionaries({"n": st.fixed_dictionaries({"$ne": SCALARS})}),
    st.fixed_dictionaries({"d.e": st.fixed_dictionaries({"$eq": SCALARS})}),
)
PATTERNS = st.lists(st.one_of(LABELS, st.just("*")), min_size=1, max_size=3).map(tuple)
CONDITIONS = st.lists(
    st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATTERNS), max_size=2
).map(tuple)
OPS = st.one_of(
    st.builds(GetOp, NAMESPACES, KEYS, st.booleans()),
    st.builds(
        PutOp,
        NAMESPACES,
        KEYS,
        st.one_of(st.none(), VALUES),
        st.sampled_from([None, False]),
        st.none(),
    ),
    st.builds(PutOp, NAMESPACES, KEYS, VALUES, st.none(), st.none()),
    st.builds(
        SearchOp,
        st.lists(LABELS, max_size=2).map(tuple),
        filter=FILTERS,
        query=st.none(),
        refresh_ttl=st.booleans(),
        limit=st.just(1_000),
        offset=st.just(0),
    ),
    st.builds(
        ListNamespacesOp,
        match_conditions=st.one_of(st.none(), CONDITIONS),
        max_depth=st.one_of(st.none(), st.integers(1, 3)),
        limit=st.integers(1, 5),
        offset=st.integers(0, 3),
    ),
)


def comparable(op: Op, result: Any) -> Any:
    """The result without its times; a search without its order, which stores choose."""
    match op:
        case PutOp():
            return result
        case GetOp():
            return None if result is None else (result.namespace, result.key, _typed(result.value))
        case SearchOp():
            return Counter(
                (item.namespace, item.key, repr(_typed(item.value)), item.score) for item in result
            )
        case _:
            return list(result)


def _typed(value: Any) -> Any:
    """1, 1.0 and True are equal in Python."""
    if isinstance(value, dict):
        return {name: _typed(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return [_typed(element) for element in value]
    return type(value).__name__, value


class Oracle(InMemoryStore):
    """InMemoryStore without the empty namespaces that its reads and deletions leave."""

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        given = list(ops)
        reads = [None if isinstance(op, PutOp) else self._alone(op) for op in given]
        super().batch([op for op in given if isinstance(op, PutOp)])
        return reads

    def _alone(self, op: Op) -> Any:
        for namespace in [name for name, items in self._data.items() if not items]:
            del self._data[namespace]
        return super().batch([op])[0]


class Stores(RuleBasedStateMachine):
    """LumaStore beside InMemoryStore."""

    url: str

    @initialize()
    def begin(self) -> None:
        self.oracle = Oracle()
        self.store = LumaStore(self.url, user_id=f"user-{uuid4()}")

    @rule(ops=st.lists(OPS, min_size=1, max_size=6))
    def batch(self, ops: list[Op]) -> None:
        expected = self.oracle.batch(ops)
        found = self.store.batch(ops)
        for op, one, other in zip(ops, expected, found, strict=True):
            assert comparable(op, other) == comparable(op, one), op

    def teardown(self) -> None:
        self.store.close()


def test_the_store_agrees_with_langgraphs_in_memory_store(url: str) -> None:
    Stores.url = url
    run_state_machine_as_test(
        Stores,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def test_the_asynchronous_methods(url: str, user: str) -> None:
    store = LumaStore(url, user_id=user)
    await store.aput(("memories", "ada"), "drink", {"text": "Ada drinks green tea."})
    item = await store.aget(("memories", "ada"), "drink")
    assert item is not None
    assert item.value == {"text": "Ada drinks green tea."}
    found = await store.asearch(("memories",), query="green tea", limit=3)
    assert [(one.key, one.score is not None) for one in found] == [("drink", True)]
    await store.aput(("memories", "ada"), "gone", {"text": "x"}, ttl=0.000_001)
    assert await store.aget(("memories", "ada"), "gone") is None
    await store.adelete(("memories", "ada"), "drink")
    assert await store.alist_namespaces() == []
    await store.aclose()


def test_a_batch_is_one_request(url: str, user: str) -> None:
    store = LumaStore(url, user_id=user)
    ops = [PutOp(("many",), f"k{n}", {"n": n}) for n in range(100)]
    assert store.batch(ops) == [None] * 100
    assert len(store.search(("many",), limit=1_000)) == 100
    more = [PutOp(("more",), f"k{n}", {"n": n}, index=False) for n in range(1_500)]
    store.batch(more)
    assert len(store.search(("more",), limit=2_000)) == 1_500
    store.close()


def test_what_the_service_refuses_is_a_value_error(url: str, user: str) -> None:
    store = LumaStore(url, user_id=user)
    with pytest.raises(ValueError, match="256 KB"):
        store.put(("a",), "k", {"text": "x" * 300_000})
    with pytest.raises(InvalidNamespaceError):
        store.put(("langgraph",), "k", {})
    store.close()


class TestLumaRetriever(RetrieversIntegrationTests):
    """langchain-tests' suite for retrievers."""

    @pytest.fixture(autouse=True)
    def blocks(self, url: str) -> None:
        type(self).service = url
        with MemoryClient(url) as client:
            for n in range(5):
                text = f"Note {n}: Ada keeps bees in her garden, hive number {n}."
                client.ingest_block_async({"user_id": "retriever", "content": text})

    service: str = ""

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return LumaRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"url": self.service, "user_id": "retriever"}

    @property
    def retriever_query_example(self) -> str:
        return "Who keeps bees?"
