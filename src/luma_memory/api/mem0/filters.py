"""mem0's filters: whose memories they can match, and the condition within each owner's scope.

    {"AND": [{"user_id": "ana"}, {"created_at": {"gte": "2026-01-01"}}]}

A filter is read into a small tree. `candidates` finds the owners that it can match at all; `within`
decides the conditions on user_id for one owner and leaves a filter over the owner's blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from luma_memory.api.mem0.not_offered import not_offered
from luma_memory.api.mem0.owners import ID_FIELDS, KINDS, Owner, entity_missing
from luma_memory.domain.access import Caller
from luma_memory.domain.errors import Invalid
from luma_memory.domain.filters import DEPTH_MAX, VALUES_MAX, Filter, parse_filter
from luma_memory.protocol.validation import Name

OWNERS_MAX: Final = 20
ANY: Final = "*"
# mem0's fields, and those of our filters.
_FIELDS: Final[Mapping[str, str]] = {
    "agent_id": "agent_id",
    "run_id": "session_id",
    "app_id": "metadata.app_id",
    "created_at": "occurred_at",
    "updated_at": "updated_at",
    "categories": "tags",
}
_JUNCTIONS: Final = {"AND": "AND", "$and": "AND", "OR": "OR", "$or": "OR"}
_NEGATIONS: Final = ("NOT", "$not")
_OPERATORS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains")
_IDENTITIES: Final = ("eq", "ne", "in", "nin")
_MATCHES: Final = ("icontains", "keywords")
_IDS: Final[TypeAdapter[list[str | None]]] = TypeAdapter(
    Annotated[list[Name | None], Field(max_length=VALUES_MAX)]
)


@dataclass(frozen=True, slots=True)
class Test:
    """One field against one value."""

    field: str  # mem0's name, or metadata.…
    operator: str
    value: Any
    place: str


@dataclass(frozen=True, slots=True)
class All:
    parts: Sequence[Node]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


Node: TypeAlias = "Test | All | AnyOf | Not"


def parse(document: Mapping[str, Any], *, metadata_at_top: bool = False) -> Node:
    """The tree of a filter. Raises Invalid (code invalid_filter) and NotOffered.

    metadata_at_top: other names than mem0's fields are metadata, as with its open-source server.
    """
    return _Parser(metadata_at_top=metadata_at_top).object(document, "filters", depth=1)


def identified(ids: Mapping[str, str | None], tree: Node | None = None) -> Node:
    """The tree, limited to ids that are given beside it."""
    tests = [Test(name, "eq", value, name) for name, value in ids.items() if value is not None]
    return All([*tests, *([] if tree is None else [tree])])


def owners(tree: Node, caller: Caller) -> Sequence[Owner]:
    """Whose memories the tree can match, in a stable order; none if it contradicts itself.

    Raises Invalid if the tree leaves the owner open or names too many, NotOffered if it asks for
    those of every user.
    """
    found = candidates(tree)
    if caller.user_id is not None:
        own = Owner("user", caller.user_id)
        others = frozenset() if found is None else found
        found = frozenset(own if owner.kind != "user" else owner for owner in others) or (
            frozenset([own]) if found is None else found
        )
    if found is None:
        if _names_all_users(tree):
            raise not_offered("memories of all users in one request")
        raise entity_missing()
    if len(found) > OWNERS_MAX:
        raise Invalid(
            f"filters must name at most {OWNERS_MAX} users, agents, apps or runs",
            code="invalid_filter",
            field="filters",
        )
    return sorted(found, key=lambda owner: (KINDS.index(owner.kind), owner.name))


def candidates(tree: Node) -> frozenset[Owner] | None:
    """The owners whose memories can match; None if it can be anyone's.

    A memory with a user_id is the user's, whatever else it has: a user, where one is named, comes
    before an agent, an application or a run.
    """
    match tree:
        case Test(field, operator, value) if field in ID_FIELDS and operator in ("eq", "in"):
            names = value if operator == "in" else [value]
            if ANY in names or None in names:
                return None
            return frozenset(Owner(ID_FIELDS[field], name) for name in names)
        case All(parts):
            found = [one for one in map(candidates, parts) if one is not None]
            if not found:
                return None
            best = min(map(_rank, found))
            chosen = [one for one in found if _rank(one) == best]
            return frozenset.intersection(*chosen) if best == 0 else chosen[0]
        case AnyOf(parts):
            each = [candidates(part) for part in parts]
            known = [one for one in each if one is not None]
            return frozenset().union(*known) if len(known) == len(each) else None
        case _:
            return None


def within(tree: Node, owner: Owner) -> Filter | bool:
    """The filter over the owner's blocks; True for all of them, False for none.

    Raises Invalid (code invalid_filter).
    """
    document = _bound(tree, owner)
    if isinstance(document, bool):
        return document
    try:
        return parse_filter(document)
    except Invalid as error:
        raise _in_mem0s_names(error) from None


def _rank(found: frozenset[Owner]) -> int:
    return max((KINDS.index(owner.kind) for owner in found), default=0)


def _names_all_users(tree: Node) -> bool:
    match tree:
        case Test(field, _, value):
            return field == "user_id" and (
                value == ANY or (isinstance(value, list) and ANY in value)
            )
        case All(parts) | AnyOf(parts):
            return any(map(_names_all_users, parts))
        case Not(part):
            return _names_all_users(part)


class _Parser:
    def __init__(self, *, metadata_at_top: bool) -> None:
        self._metadata_at_top = metadata_at_top

    def object(self, document: Any, place: str, *, depth: int) -> Node:
        if not isinstance(document, Mapping):
            raise _wrong(place, "an object")
        if depth > DEPTH_MAX:
            raise _wrong(place, f"nested no deeper than {DEPTH_MAX}")
        parts = [
            part
            for name, value in document.items()
            for part in self._entry(str(name), value, f"{place}.{name}", depth)
        ]
        return parts[0] if len(parts) == 1 else All(parts)

    def _entry(self, name: str, value: Any, place: str, depth: int) -> Sequence[Node]:
        if name in _JUNCTIONS:
            parts = self._list(value, place, depth)
            return [All(parts) if _JUNCTIONS[name] == "AND" else AnyOf(parts)]
        if name in _NEGATIONS:
            # Of a list: none of them holds.
            listed = value if isinstance(value, list) else [value]
            return [Not(AnyOf(self._list(listed, place, depth)))]
        if name in _MATCHES:
            raise not_offered(f"the filter {name}")
        if name == "metadata":
            return self._metadata(value, place)
        if name in _FIELDS or name in ID_FIELDS:
            return _tests(name, value, place)
        if self._metadata_at_top:
            return _tests(f"metadata.{name}", value, place)
        known = ", ".join(dict.fromkeys([*ID_FIELDS, *_FIELDS]))
        raise _wrong(place, f"one of {known}, metadata, AND, OR, NOT")

    def _list(self, value: Any, place: str, depth: int) -> Sequence[Node]:
        if not isinstance(value, list):
            raise _wrong(place, "a list of objects")
        return [
            self.object(part, f"{place}.{number}", depth=depth + 1)
            for number, part in enumerate(value)
        ]

    def _metadata(self, value: Any, place: str) -> Sequence[Node]:
        if not isinstance(value, Mapping) or not value:
            raise _wrong(place, "an object of metadata names and values")
        return [
            test
            for name, entry in value.items()
            for test in _tests(f"metadata.{name}", entry, f"{place}.{name}")
        ]


def _tests(field: str, value: Any, place: str) -> Sequence[Test]:
    if isinstance(value, list):
        value = {"in": value}
    entries = value if isinstance(value, Mapping) else {"eq": value}
    if not entries:
        raise _wrong(place, "a value, a list or operators")
    tests = []
    for operator, operand in entries.items():
        if operator in _MATCHES:
            raise not_offered(f"the operator {operator}")
        known = _IDENTITIES if field in ID_FIELDS else _OPERATORS
        if operator not in known:
            raise _wrong(place, f"compared by one of {', '.join(known)}")
        if field in ID_FIELDS:
            _check_ids(operator, operand, place)
        tests.append(Test(field, str(operator), operand, place))
    return tests


def _check_ids(operator: str, operand: Any, place: str) -> None:
    values = operand if operator in ("in", "nin") else [operand]
    try:
        _IDS.validate_python(values, strict=True)
    except ValidationError:
        raise _wrong(place, "an id, or a list of ids") from None


def _bound(tree: Node, owner: Owner) -> dict[str, Any] | bool:
    match tree:
        case Test():
            return _bound_test(tree, owner)
        case All(parts):
            bound = [_bound(part, owner) for part in parts]
            left = [part for part in bound if not isinstance(part, bool)]
            return False if False in bound else _joined("AND", left) if left else True
        case AnyOf(parts):
            bound = [_bound(part, owner) for part in parts]
            left = [part for part in bound if not isinstance(part, bool)]
            return True if True in bound else _joined("OR", left) if left else False
        case Not(part):
            inner = _bound(part, owner)
            return not inner if isinstance(inner, bool) else {"NOT": inner}


def _joined(junction: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {junction: parts}


def _bound_test(test: Test, owner: Owner) -> dict[str, Any] | bool:
    if test.field == "user_id":
        return _is_users(test, owner)
    field, operator, value = _FIELDS.get(test.field, test.field), test.operator, test.value
    if value == ANY and operator in ("eq", "ne"):
        return {field: {"exists": operator == "eq"}}
    if operator in ("in", "nin") and isinstance(value, list) and ANY in value:
        return {field: {"exists": operator == "in"}}
    if field == "tags" and operator in ("eq", "ne"):
        has = {field: {"contains": value}}
        return has if operator == "eq" else {"NOT": has}
    return {field: {operator: value}}


def _is_users(test: Test, owner: Owner) -> bool:
    name = owner.name if owner.kind == "user" else None
    values = test.value if test.operator in ("in", "nin") else [test.value]
    is_among = name in values or (ANY in values and name is not None)
    return is_among == (test.operator in ("eq", "in"))


def _in_mem0s_names(error: Invalid) -> Invalid:
    text, field = str(error), error.field or "filters"
    for name, ours in _FIELDS.items():
        text, field = text.replace(ours, name), field.replace(ours, name)
    return Invalid(text, code=error.code, field=field)


def _wrong(place: str, expected: str) -> Invalid:
    place = place.encode("utf-8", "replace").decode()[:200]
    return Invalid(f"{place} must be {expected}", code="invalid_filter", field=place)
