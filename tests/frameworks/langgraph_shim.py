"""A pytest plugin that runs the tests of LangGraph's SQLite store with LumaStore in its place.

The service's address is in LUMA_TEST_URL. Each store that a test opens is a user of its own; a
database file is one user, however often it is opened.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import pytest
from langgraph.store.base import Op, Result, SearchOp

from luma_memory.client import MemoryClient
from luma_memory.integrations.langgraph import LumaStore

_OWN_EMBEDDING = "scores and neighbours of the test's embedding; the service has a model of its own"
_SQLITE = "a part of the SQLite store itself"
LEFT_OUT = {
    "test_embed_with_path": _OWN_EMBEDDING,
    "test_scores": _OWN_EMBEDDING,
    "test_vector_store_initialization": "reads the SQLite store's embedding",
    "test_no_running_loop": "synchronous methods work inside an event loop, too",
    "test_sql_injection_vulnerability": "expects an error; here any filter key is a name",
    "test_filter_keys_with_hyphens_and_digits": "a dot in a filter key has no meaning, as in"
    " InMemoryStore",
    "test_escape_glob_literal": _SQLITE,
    "test_list_namespaces_prefix_uses_indexable_condition": _SQLITE,
    "test_namespace_match_pattern": _SQLITE,
    "test_nonnull_migrations": _SQLITE,
}


class _Store(LumaStore):
    """What the tests call beside the methods of a store."""

    def __init__(self, connection: str, index: Any) -> None:
        name = uuid4() if connection == ":memory:" else uuid5(NAMESPACE_URL, connection)
        self.user_id = str(name)
        paths = (index or {}).get("text_fields") or (index or {}).get("fields")
        super().__init__(os.environ["LUMA_TEST_URL"], user_id=self.user_id, index=paths)
        self.index_config = index

    def setup(self) -> None:
        """The service has its tables."""

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The tests expect what they have put to be embedded when they search."""
        given = list(ops)
        if any(isinstance(op, SearchOp) and op.query for op in given):
            self._until_embedded()
        return super().batch(given)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        if any(isinstance(op, SearchOp) and op.query for op in given):
            await asyncio.to_thread(self._until_embedded)
        return await super().abatch(given)

    def _until_embedded(self) -> None:
        with MemoryClient(os.environ["LUMA_TEST_URL"]) as client:
            while any(
                client.list_jobs(user_id=self.user_id, status=status).jobs
                for status in ("pending", "processing")
            ):
                time.sleep(0.05)


class SqliteStore(_Store):
    MIGRATIONS = ("",)

    @classmethod
    @contextmanager
    def from_conn_string(cls, connection: str, *, index: Any = None) -> Iterator[SqliteStore]:
        store = cls(connection, index)
        try:
            yield store
        finally:
            store.close()


class AsyncSqliteStore(_Store):
    async def setup(self) -> None:  # type: ignore[override]
        """The service has its tables."""

    @classmethod
    @asynccontextmanager
    async def from_conn_string(
        cls, connection: str, *, index: Any = None
    ) -> AsyncIterator[AsyncSqliteStore]:
        store = cls(connection, index)
        try:
            yield store
        finally:
            await store.aclose()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is listed. Raises UsageError for a name that no test has."""
    names = {getattr(item, "originalname", item.name) for item in items}
    if unknown := LEFT_OUT.keys() - names:
        raise pytest.UsageError(f"no such tests: {', '.join(sorted(unknown))}")
    items[:] = [item for item in items if getattr(item, "originalname", item.name) not in LEFT_OUT]


def _module(name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


_module("langgraph.store.sqlite", SqliteStore=SqliteStore, AsyncSqliteStore=AsyncSqliteStore)
# Parts of the SQLite store itself; the tests of them are left out.
_module(
    "langgraph.store.sqlite.base",
    NS_MATCH_FUNCTION=None,
    BaseSqliteStore=None,
    SqliteIndexConfig=dict,
    _escape_glob_literal=None,
    _namespace_match_pattern=None,
)
