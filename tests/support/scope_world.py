"""The database that a machine changes, with all adapters, called from plain functions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import asyncpg

from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.testing.models import WordEmbedder

ADA = Scope("default", "ada")
BEA = Scope("default", "bea")
MODELS = ("words-64", "words-64b")
ResultT = TypeVar("ResultT")


class World:
    """The database, its adapters, and an event loop to call them from plain functions."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self.database = Database(dsn, pool_size=3)
        self.blocks = PostgresBlockStore(self.database, attempts_max=3)
        self.items = PostgresItemStore(self.database, attempts_max=3)
        self.editor = PostgresBlockEditor(self.database, attempts_max=3)
        self.queue = PostgresJobQueue(self.database)
        self.control = PostgresJobControl(self.database, attempts_max=3)
        self.windows = PostgresWindowStore(self.database)
        self.vectors = PostgresVectorModels(self.database)
        self.archive = PostgresArchive(self.database)
        self.erasures = PostgresEraserStore(self.database)
        self.connection: asyncpg.Connection = self.run(asyncpg.connect(dsn))

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self._runner.run(work)

    def rows(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        return self.run(self.connection.fetch(statement, *values))

    def change(self, statement: str, *values: Any) -> None:
        self.run(self.connection.execute(statement, *values))

    def close(self) -> None:
        self.run(self.connection.close())
        self.run(self.database.close())
        self._runner.close()


def embedder(model: str) -> WordEmbedder:
    return WordEmbedder(model_id=model, dimension=64)
