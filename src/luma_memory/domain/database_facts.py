"""Version, extensions and rights of a database, as far as the service needs them."""

from __future__ import annotations

from dataclasses import dataclass

POSTGRES_MAJOR_MIN = 16
PGVECTOR_MIN = (0, 8)
ENCODING_NEEDED = "UTF8"


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The result of one inspection."""

    major: int
    version: str
    encoding: str
    schema: str | None  # the first of the search_path that exists; None: none does
    may_create_tables: bool
    pgvector: str | None  # installed in the database, else what could be; None: neither
    may_have_pgvector: bool  # installed, or this user may install it
    schema_current: bool

    @property
    def is_recent(self) -> bool:
        return self.major >= POSTGRES_MAJOR_MIN

    @property
    def is_utf8(self) -> bool:
        return self.encoding == ENCODING_NEEDED

    @property
    def has_pgvector(self) -> bool:
        return self.pgvector is not None and _numbers(self.pgvector) >= PGVECTOR_MIN


def _numbers(version: str) -> tuple[int, ...]:
    parts = (part for part in version.split(".")[:2])
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)
