"""mem0's filters: whose memories they can match, and what is left within a scope."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.api.mem0.filters import identified, owners, parse, within
from luma_memory.api.mem0.owners import Owner, chosen_owner, owner_of
from luma_memory.domain.access import EVERY_PERMISSION, Caller
from luma_memory.domain.errors import Invalid, NotOffered
from luma_memory.domain.filters import Combined, Comparison, Negated

PROJECT = Caller("shop", frozenset(EVERY_PERMISSION))
OF_BOB = Caller("shop", frozenset(EVERY_PERMISSION), user_id="bob")


def found(document: dict[str, Any], caller: Caller = PROJECT) -> list[tuple[str, str]]:
    return [(owner.kind, owner.name) for owner in owners(parse(document), caller)]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"user_id": "ana"}, [("user", "ana")]),
        ({"AND": [{"user_id": "ana"}, {"agent_id": "bot"}]}, [("user", "ana")]),
        ({"agent_id": "bot", "run_id": "r"}, [("agent", "bot")]),
        ({"run_id": "r"}, [("run", "r")]),
        ({"user_id": {"in": ["ana", "bob"]}}, [("user", "ana"), ("user", "bob")]),
        ({"OR": [{"user_id": "ana"}, {"agent_id": "bot"}]}, [("user", "ana"), ("agent", "bot")]),
        ({"AND": [{"user_id": "ana"}, {"user_id": "bob"}]}, []),
        # A user in every branch comes before what the branches share.
        (
            {"AND": [{"OR": [{"user_id": "ana"}, {"user_id": "bob"}]}, {"run_id": "r"}]},
            [("user", "ana"), ("user", "bob")],
        ),
        ({"AND": [{"user_id": "ana"}, {"NOT": [{"user_id": "bob"}]}]}, [("user", "ana")]),
    ],
)
def test_the_owners_that_a_filter_can_match(
    document: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert found(document) == expected


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"categories": {"contains": "travel"}},
        {"NOT": [{"user_id": "ana"}]},
        {"OR": [{"user_id": "ana"}, {"created_at": {"gte": "2026-01-01"}}]},
        {"agent_id": "*"},
    ],
)
def test_a_filter_that_leaves_the_owner_open_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        found(document)
    assert refused.value.code == "entity_missing"


def test_all_users_at_once_are_not_offered() -> None:
    with pytest.raises(NotOffered):
        found({"AND": [{"user_id": "*"}, {"categories": "travel"}]})


def test_a_key_of_one_user_stands_for_an_owner_that_is_not_named() -> None:
    assert found({}, OF_BOB) == [("user", "bob")]
    assert found({"agent_id": "bot"}, OF_BOB) == [("user", "bob")]
    # Another user is not replaced: it is refused where the scope is made.
    assert found({"user_id": "ana"}, OF_BOB) == [("user", "ana")]


def test_too_many_owners_are_refused() -> None:
    with pytest.raises(Invalid, match="at most 20"):
        found({"user_id": {"in": [f"user-{n}" for n in range(21)]}})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"user_id": "ana"}, True),
        ({"user_id": "bob"}, False),
        ({"user_id": "*"}, True),
        ({"NOT": [{"user_id": "ana"}]}, False),
        ({"user_id": {"ne": "bob"}}, True),
        ({"user_id": {"nin": ["ana"]}}, False),
        ({"AND": [{"user_id": "ana"}, {"run_id": "r"}]}, Comparison("session_id", "eq", "r")),
        ({"OR": [{"user_id": "ana"}, {"run_id": "r"}]}, True),
        ({"agent_id": "*"}, Comparison("agent_id", "exists", True)),
        ({"app_id": "web"}, Comparison("metadata", "eq", "web", ["app_id"])),
        ({"categories": "travel"}, Comparison("tags", "contains", "travel")),
        ({"categories": {"in": ["a", "b"]}}, Comparison("tags", "in", ["a", "b"])),
        ({"categories": {"ne": "a"}}, Negated(Comparison("tags", "contains", "a"))),
        ({"metadata": {"team": "blue"}}, Comparison("metadata", "eq", "blue", ["team"])),
        ({"metadata": {"n": {"gte": 2}}}, Comparison("metadata", "gte", 2, ["n"])),
        (
            {"NOT": [{"run_id": "r"}, {"agent_id": "bot"}]},
            Negated(
                Combined(
                    "OR",
                    [Comparison("session_id", "eq", "r"), Comparison("agent_id", "eq", "bot")],
                )
            ),
        ),
    ],
)
def test_what_is_left_of_a_filter_within_anas_scope(
    document: dict[str, Any], expected: object
) -> None:
    assert within(parse(document), Owner("user", "ana")) == expected


def test_ids_beside_the_filter_narrow_it() -> None:
    tree = identified({"user_id": "ana", "run_id": None}, parse({"agent_id": "bot"}))
    assert owners(tree, PROJECT) == [Owner("user", "ana")]
    assert within(tree, Owner("user", "ana")) == Comparison("agent_id", "eq", "bot")


def test_other_names_are_metadata_for_the_open_source_form_only() -> None:
    tree = parse({"user_id": "ana", "color": "blue"}, metadata_at_top=True)
    assert within(tree, Owner("user", "ana")) == Comparison("metadata", "eq", "blue", ["color"])
    with pytest.raises(Invalid, match=r"filters\.color must be one of user_id"):
        parse({"user_id": "ana", "color": "blue"})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"user_id": 7}, "filters.user_id must be an id"),
        ({"user_id": "a\x00"}, "filters.user_id must be an id"),
        ({"user_id": "x" * 257}, "filters.user_id must be an id"),
        ({"run_id": ["r", " "]}, "filters.run_id must be an id"),
        ({"user_id": {"gte": "a"}}, "compared by one of eq, ne, in, nin"),
        ({"user_id": {}}, "must be a value, a list or operators"),
        ({"AND": {"user_id": "ana"}}, "filters.AND must be a list of objects"),
        ({"OR": [7]}, "filters.OR.0 must be an object"),
        ({"metadata": "x"}, "filters.metadata must be an object"),
        ({"created_at": {"gte": "soon"}}, "created_at must be a time"),
        ({"run_id": {"in": []}}, "must be a list of 1 to 200 values"),
    ],
)
def test_a_wrong_filter_names_its_place(document: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        within(parse({"AND": [{"user_id": "ana"}], **document}), Owner("user", "ana"))


@pytest.mark.parametrize(
    "document", [{"keywords": {"contains": "x"}}, {"metadata": {"a": {"icontains": "x"}}}]
)
def test_matches_within_a_text_are_not_offered(document: dict[str, Any]) -> None:
    with pytest.raises(NotOffered):
        parse(document)


def test_a_deep_filter_is_refused_and_no_error_of_ours() -> None:
    document: dict[str, Any] = {"user_id": "ana"}
    for _ in range(200):
        document = {"AND": [document]}
    with pytest.raises(Invalid, match="nested no deeper than"):
        parse(document)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["AND", "OR", "NOT", "user_id", "run_id", "metadata", "categories", "created_at", "color"]
)


@given(st.dictionaries(_NAMES, _JSON | st.dictionaries(_NAMES, _JSON), max_size=4))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        tree = parse(document, metadata_at_top=True)
        for owner in owners(tree, PROJECT):
            within(tree, owner)
    except (Invalid, NotOffered):
        pass


@pytest.mark.parametrize(
    "owner", [Owner("user", "ana"), Owner("agent", "b:c"), Owner("app", "x"), Owner("run", "1")]
)
def test_a_scope_names_its_owner(owner: Owner) -> None:
    assert owner_of(owner.user_id) == owner


def test_the_owner_of_a_new_memory() -> None:
    ids = {"user_id": None, "agent_id": "bot", "app_id": "web", "run_id": "r"}
    assert chosen_owner(ids, PROJECT) == Owner("agent", "bot")
    assert chosen_owner(ids, OF_BOB) == Owner("user", "bob")
    assert chosen_owner({**ids, "user_id": "ana"}, OF_BOB) == Owner("user", "ana")
    with pytest.raises(Invalid, match="Name whose memories"):
        chosen_owner({}, PROJECT)
    with pytest.raises(Invalid, match="agent_id must have at most 245 characters"):
        _ = Owner("agent", "b" * 256).user_id
