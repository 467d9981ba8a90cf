"""Every method of every repository is routed."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest

from luma_memory.partitions.router import Routed
from luma_memory.partitions.stores import RULES
from luma_memory.store.events import PostgresEventStore

# What the routed methods themselves use, of the repository in one partition.
OF_ONE_PARTITION: dict[type, set[str]] = {
    PostgresEventStore: {"positions", "last_position", "unplaced", "place", "read"},
}


@pytest.mark.parametrize("store", RULES, ids=lambda store: store.__name__)
def test_every_method_has_a_rule(store: type) -> None:
    methods = {
        name
        for name, _ in inspect.getmembers(store, inspect.isfunction)
        if not name.startswith("_")
    }
    assert set(RULES[store]) == methods - OF_ONE_PARTITION.get(store, set())


@pytest.mark.parametrize(
    ("store", "name"),
    [
        pytest.param(store, name, id=f"{store.__name__}.{name}")
        for store, rules in RULES.items()
        for name in rules
    ],
)
def test_a_routed_method_takes_the_arguments_of_the_repository(store: type, name: str) -> None:
    """All of them, each in its way: an option may have a name that the rule uses itself."""
    of_repository = inspect.signature(getattr(store, name)).parameters.values()
    _itself, *parameters = of_repository
    routed = cast("Routed[Any]", SimpleNamespace(places=None, stores=[store]))
    method = inspect.signature(RULES[store][name](routed, name))
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    options = {one.name: one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    method.bind(*positional, **options)
