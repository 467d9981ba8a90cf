"""Filters as SQL conditions. Names and operators come from the tables here, values are
parameters: no text of a filter is ever part of a statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from luma_memory.domain.filters import (
    METADATA,
    Combined,
    Comparison,
    Filter,
    Junction,
    Negated,
    Operator,
)

_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    # field: expression over memory_blocks AS b, type of its parameter
    "source": ("b.source", "text"),
    "session_id": ("b.session_id", "text"),
    "agent_id": ("b.agent_id", "text"),
    "speaker": ("b.speaker", "text"),
    "external_id": ("b.external_id", "text"),
    "status": ("b.status", "text"),
    "enrichment": ("b.enrichment", "text"),
    "language": ("b.language", "text"),
    "importance": ("b.importance", "real"),
    "occurred_at": ("coalesce(b.occurred_at, b.created_at)", "timestamptz"),
    "created_at": ("b.created_at", "timestamptz"),
    "updated_at": ("b.updated_at", "timestamptz"),
    "expires_at": ("b.expires_at", "timestamptz"),
}
_SIGNS: Final[Mapping[Operator, str]] = {
    "eq": "IS NOT DISTINCT FROM",
    "ne": "IS DISTINCT FROM",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
}
_JUNCTIONS: Final[Mapping[Junction, tuple[str, str]]] = {
    "AND": (" AND ", "true"),
    "OR": (" OR ", "false"),
}


class FilterCondition:
    """A filter's condition over `memory_blocks AS b`, and the values of its parameters.

    first: number of its first parameter. Each comparison is true or false, never unknown, so that
    NOT inverts each of them.
    """

    def __init__(self, tree: Filter, *, first: int) -> None:
        self._first = first
        self._values: list[Any] = []
        self.text = self._condition(tree)

    @property
    def values(self) -> Sequence[Any]:
        return self._values

    def _condition(self, tree: Filter) -> str:
        match tree:
            case Comparison():
                return f"coalesce({self._comparison(tree)}, false)"
            case Negated():
                return f"NOT {self._condition(tree.part)}"
            case Combined():
                sign, nothing = _JUNCTIONS[tree.junction]
                return f"({sign.join(map(self._condition, tree.parts)) or nothing})"

    def _comparison(self, comparison: Comparison) -> str:
        if comparison.field == METADATA:
            return self._metadata(comparison)
        if comparison.field == "tags":
            return self._tags(comparison)
        column, type_name = _COLUMNS[comparison.field]
        operator, value = comparison.operator, comparison.value
        match operator:
            case "exists":
                return f"({column} IS NOT NULL) = {self._parameter(value, 'boolean')}"
            case "in" | "nin":
                found = f"{column} = ANY ({self._parameter(value, f'{type_name}[]')})"
                return found if operator == "in" else f"NOT coalesce({found}, false)"
            case _:
                return f"{column} {_SIGNS[operator]} {self._parameter(value, type_name)}"

    def _tags(self, comparison: Comparison) -> str:
        value = comparison.value
        match comparison.operator:
            case "exists":
                return f"(cardinality(b.tags) > 0) = {self._parameter(value, 'boolean')}"
            case "in":
                return f"b.tags && {self._parameter(value, 'text[]')}"
            case "nin":
                return f"NOT b.tags && {self._parameter(value, 'text[]')}"
            case _:
                return f"{self._parameter(value, 'text')} = ANY (b.tags)"

    def _metadata(self, comparison: Comparison) -> str:
        found = f"(b.metadata #> {self._parameter(list(comparison.path), 'text[]')})"
        operator, value = comparison.operator, comparison.value
        match operator:
            case "exists":
                return f"({found} IS NOT NULL) = {self._parameter(value, 'boolean')}"
            case "in" | "nin":
                listed = f"{found} = ANY ({self._parameter(value, 'jsonb[]')})"
                return listed if operator == "in" else f"NOT coalesce({listed}, false)"
            case "contains":
                # True for an array that contains the value, and for the value itself.
                return f"{found} @> {self._parameter(value, 'jsonb')}"
            case "eq" | "ne" if value is None:
                sign = "=" if operator == "eq" else "<>"
                return f"coalesce(jsonb_typeof({found}), 'null') {sign} 'null'"
            case "eq" | "ne":
                return f"{found} {_SIGNS[operator]} {self._parameter(value, 'jsonb')}"
            case _:
                # jsonb also orders values of different types; here 5 is not below "a".
                given = self._parameter(value, "jsonb")
                same_kind = f"jsonb_typeof({found}) = jsonb_typeof({given})"
                return f"{same_kind} AND {found} {_SIGNS[operator]} {given}"

    def _parameter(self, value: Any, type_name: str) -> str:
        self._values.append(value)
        return f"${self._first + len(self._values) - 1}::{type_name}"
