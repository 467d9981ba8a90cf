"""Validation of imported rows beyond the constraints of the tables.

A vector of a different dimension, or one of zeros, would make every later search of the user
fail; an entity of another shape, every read of its block.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from luma_memory.domain.enrichment import EmbeddingModel, EntityKind
from luma_memory.pipeline.text.words import TERM_SPACE

_HALF_MAX: Final = 65_504.0  # the largest number of 16 bits
# Far above any real scope, and low enough that later additions fit into the column.
_COUNT_MAX: Final = 1_000_000_000
_COST_MAX_USD: Final = 100_000.0
_COUNTERS: Final = {
    "blocks": ("revision", "enriched_revision", "repeat_count"),
    "block_revisions": ("revision",),
    "next_passages": ("revision",),
    "usage": ("calls", "input_tokens", "output_tokens", "blocks"),
}
_ENTITY_KINDS: Final = frozenset(get_args(EntityKind))
# The column with the model of a row's vector.
_MODEL_COLUMNS: Final = {"passages": "embedding_model", "next_passages": "model"}
# None: no vector of that model is stored for the user.
StoredDimension = Callable[[str], Awaitable[int | None]]


class ImportChecks:
    """The checks of one import, with state across its rows.

    configured: the model of queries. stored: called once per model.
    """

    def __init__(self, configured: EmbeddingModel | None, stored: StoredDimension) -> None:
        self._dimensions = {} if configured is None else {configured.id: configured.dimension}
        self._stored = stored

    async def check(self, kind: str, row: Mapping[str, Any]) -> None:
        """Raises ValueError with the reason, without repeating the row."""
        if kind == "users":  # whose other columns are not imported: places in queues, versions
            row = {name: row.get(name) for name in ("time_zone", "last_ingest_at")}
            _check_zone(row["time_zone"])
        _check_times(row)
        _check_counters(kind, row)
        if kind == "blocks":
            _check_block(row)
        if kind in _MODEL_COLUMNS:
            _check_terms(row.get("lexemes"))
            if row.get("embedding") is not None:
                await self._check_vector(row["embedding"], row.get(_MODEL_COLUMNS[kind]))

    async def _check_vector(self, text: object, model: object) -> None:
        vector = _numbers(text)
        if not model or not isinstance(model, str):
            raise ValueError("a vector whose model is not named")
        if model not in self._dimensions:
            self._dimensions[model] = await self._stored(model) or len(vector)
        if len(vector) != self._dimensions[model]:
            raise ValueError("a vector of another length than others of its model")
        if not all(math.isfinite(value) and abs(value) <= _HALF_MAX for value in vector):
            raise ValueError("a vector with a number that is not finite")
        # Also checked at 16 bits, where smaller values become zero.
        if not any(abs(value) > 2.0**-14 for value in vector):
            raise ValueError("a vector without a direction")


def _numbers(text: object) -> list[float]:
    try:
        numbers = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        numbers = None
    if not isinstance(numbers, list) or not numbers:
        raise ValueError("a vector that is no list of numbers")
    if not all(type(number) in (int, float) for number in numbers):
        raise ValueError("a vector that is no list of numbers")
    return [float(number) for number in numbers]


def _check_terms(text: object) -> None:
    if text is not None and not (isinstance(text, str) and text.endswith(f"}}/{TERM_SPACE}")):
        raise ValueError("terms of another form")


def _check_times(row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        if name.endswith("_at") and isinstance(value, str):
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{name[:50]} is no time of the years 1 to 9999") from None


def _check_counters(kind: str, row: Mapping[str, Any]) -> None:
    """Counters are incremented later; a statement that overflows one fails for all its users."""
    for name in _COUNTERS.get(kind, ()):
        value = row.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= _COUNT_MAX):
            raise ValueError(f"{name} that is not a count up to {_COUNT_MAX:,}")
    cost = row.get("cost_usd") if kind == "usage" else None
    if cost is not None and not (type(cost) in (int, float) and 0 <= cost <= _COST_MAX_USD):
        raise ValueError("cost_usd that is not an amount of money")


def _check_zone(name: object) -> None:
    try:
        if name is not None:
            ZoneInfo(str(name))
    except (KeyError, OSError, ValueError):  # unknown, or not a file name
        raise ValueError("a time zone that is not known") from None


def _check_block(row: Mapping[str, Any]) -> None:
    if not _is_list_of(dict, [row.get("metadata", {})]):
        raise ValueError("metadata that is no object")
    if not _is_list_of(str, row.get("tags", [])):
        raise ValueError("tags that are no list of texts")
    entities = row.get("entities", [])
    if not _is_list_of(dict, entities) or not all(map(_is_entity, entities)):
        raise ValueError("entities of another form")


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


def _is_entity(entity: Mapping[str, Any]) -> bool:
    return (
        entity.keys() <= {"name", "kind", "value"}
        and isinstance(entity.get("name"), str)
        and entity.get("kind") in _ENTITY_KINDS
        and isinstance(entity.get("value"), str | None)
    )
