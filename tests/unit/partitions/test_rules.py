"""Every method of every repository is routed."""

from __future__ import annotations

import inspect

import pytest

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
