"""Export a user as JSON Lines, and import such an export.

    {"kind": "header", "format": "luma-memory-export/1", "user_id": "ada"}
    {"kind": "blocks", "row": {…}}
    {"kind": "end", "counts": {"blocks": 1}}

The rows are table rows including vectors, so that an import restores the exported state. An export
without its last line is incomplete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.domain.errors import Invalid, SetupError
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.import_checks import ImportChecks
from luma_memory.ports.archive import Archive
from luma_memory.ports.models import Embedder

FORMAT: Final = "luma-memory-export/1"
# Rows per statement, and their total size.
STORE_ROWS: Final = 200
STORE_BYTES: Final = 4_000_000


@dataclass(slots=True)
class Imported:
    """The result of an import, by kind of row."""

    read: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)  # those that did not exist before


class Archiving:
    """All methods raise StoreUnavailable."""

    def __init__(self, archive: Archive, *, embedder: Embedder | None) -> None:
        self._archive = archive
        self._embedder = embedder  # of queries

    async def export(self, scope: Scope) -> AsyncIterator[bytes]:
        """The lines in chunks, with at most one page of rows in memory."""
        yield _line({"kind": "header", "format": FORMAT, "user_id": scope.user_id})
        counts: Counter[str] = Counter()
        async for kind, rows in self._archive.rows(scope):
            counts[kind] += len(rows)
            start = json.dumps({"kind": kind})[:-1] + ', "row": '
            yield "".join(f"{start}{row}}}\n" for row in rows).encode()
        yield _line({"kind": "end", "counts": counts})

    async def store(self, scope: Scope, lines: AsyncIterator[tuple[int, Any]]) -> Imported:
        """Import an export for a user, who may differ from the exported one.

        lines: the size in bytes and the parsed value of each line. Existing rows stay unchanged, so
        an interrupted import can be repeated. Raises Invalid with the number of the line.
        """
        imported = Imported()
        batch = _Batch()
        checks = ImportChecks(self._model(), partial(self._archive.dimension, scope))
        number, ended = 0, False
        async for size, line in lines:
            number += 1
            if number == 1:
                _check_header(line)
                continue
            if ended:
                raise _wrong(number, "it follows the end of the export")
            kind, row = _kind_and_row(number, line)
            if kind == "end":
                ended = True
                _check_counts(line, imported, batch)
                continue
            try:
                await checks.check(kind, row)
            except ValueError as error:
                raise Invalid(
                    f"Line {number} cannot be stored: {error}", code="import_row_invalid"
                ) from None
            if not batch.takes(kind, size):
                await self._flush(scope, batch, imported)
            batch.add(kind, row, size)
        await self._flush(scope, batch, imported)
        if not ended:
            raise Invalid(
                "The export was cut off: its last line is missing", code="import_incomplete"
            )
        return imported

    def _model(self) -> EmbeddingModel | None:
        """The model of the queries; None while its dimension is unknown."""
        try:
            return self._embedder.model if self._embedder else None
        except SetupError:
            return None

    async def _flush(self, scope: Scope, batch: _Batch, imported: Imported) -> None:
        if batch.rows:
            imported.stored[batch.kind] += await self._archive.store(scope, batch.kind, batch.rows)
            imported.read[batch.kind] += len(batch.rows)
            batch.clear()


class _Batch:
    """Rows of one kind that are stored in one statement."""

    def __init__(self) -> None:
        self.kind = ""
        self.rows: list[Mapping[str, Any]] = []
        self._bytes = 0

    def takes(self, kind: str, size: int) -> bool:
        """Whether a row of that kind and size fits; the first one always does."""
        if not self.rows:
            return True
        fits = len(self.rows) < STORE_ROWS and self._bytes + size <= STORE_BYTES
        return fits and kind == self.kind

    def add(self, kind: str, row: Mapping[str, Any], size: int) -> None:
        self.kind = kind
        self.rows.append(row)
        self._bytes += size

    def clear(self) -> None:
        self.rows, self._bytes = [], 0


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _check_header(line: Any) -> None:
    if not isinstance(line, Mapping) or line.get("format") != FORMAT:
        raise _wrong(1, f"the first line does not have the format {FORMAT}")


def _kind_and_row(number: int, line: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(line, Mapping) or not isinstance(line.get("kind"), str):
        raise _wrong(number, "it has no kind")
    row = line.get("row", {})
    if not isinstance(row, Mapping):
        raise _wrong(number, "its row is not an object")
    return line["kind"], row


def _check_counts(line: Mapping[str, Any], imported: Imported, batch: _Batch) -> None:
    read = imported.read + Counter({batch.kind: len(batch.rows)} if batch.rows else {})
    if line.get("counts") != dict(read):
        raise Invalid(
            "The counts in the export's last line do not match its rows", code="import_incomplete"
        )


def _wrong(number: int, why: str) -> Invalid:
    return Invalid(f"Line {number} is not part of an export: {why}", code="import_line_invalid")
