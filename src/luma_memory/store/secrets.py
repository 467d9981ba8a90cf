"""Random secrets that all processes of an installation share."""

from __future__ import annotations

from collections.abc import Mapping

from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


async def shared_secrets(database: Database) -> Mapping[str, bytes]:
    """Secrets by name: "cursors" and "receipts". Raises StoreUnavailable."""
    rows = await database.fetch(_SQL["read_secrets"])
    return {row["name"]: row["value"] for row in rows}
