"""Which items a statement reads, as conditions. No text of a filter is ever part of a statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from luma_memory.domain.item_filters import ItemComparison, ItemFilter, ItemOperator

_SIGNS: Final[Mapping[ItemOperator, str]] = {
    "$eq": "IS NOT DISTINCT FROM",
    "$ne": "IS DISTINCT FROM",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
}


class SelectionCondition:
    """Conditions over `memory_blocks AS b`, each after AND, and the values of their parameters.

    first: number of the first parameter.
    """

    def __init__(
        self, prefix: Sequence[str], comparisons: ItemFilter, *, is_exact: bool, first: int
    ) -> None:
        self._first = first
        self._values: list[Any] = []
        parts = []
        if prefix and is_exact:
            labels = self._parameter(list(prefix), "text[]")
            parts.append(
                f"hash_array_extended(b.namespace, 0) = hash_array_extended({labels}, 0)"
                f" AND b.namespace = {labels}"
            )
        elif prefix:
            labels = self._parameter(list(prefix), "text[]")
            parts.append(f"b.namespace[1:{len(prefix)}] = {labels}")
        parts += map(self._comparison, comparisons)
        self.text = "".join(f" AND {part}" for part in parts)

    @property
    def values(self) -> Sequence[Any]:
        return self._values

    def add(self, condition: str, value: Any, type_name: str) -> None:
        """One more: `{}` in the condition is the value."""
        self.text += " AND " + condition.format(self._parameter(value, type_name))

    def _comparison(self, comparison: ItemComparison) -> str:
        found = f"(b.value #> {self._parameter(list(comparison.path), 'text[]')})"
        operator, value = comparison.operator, comparison.value
        if operator in ("$eq", "$ne"):
            # A missing member is null.
            given = self._parameter(value, "jsonb")
            return f"coalesce({found}, 'null') {_SIGNS[operator]} coalesce({given}, 'null')"
        # jsonb orders kinds among each other; 5 is not below "a".
        given = self._parameter(value, "jsonb")
        same_kind = f"jsonb_typeof({found}) = jsonb_typeof({given})"
        return f"coalesce({same_kind} AND {found} {_SIGNS[operator]} {given}, false)"

    def _parameter(self, value: Any, type_name: str) -> str:
        self._values.append(value)
        return f"${self._first + len(self._values) - 1}::{type_name}"
