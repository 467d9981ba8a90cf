"""The namespaces of a snapshot's rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from luma_memory.domain.search import ItemSelection
from luma_memory.pipeline.recall.row_namespaces import RowNamespaces

A, AB, AX, NONE = (json.dumps(one) for one in (["a"], ["a", "b"], ["a\u2028", "b"], None))
ROWS = np.arange(5)


def made() -> RowNamespaces:
    return RowNamespaces().followed_by([A, AB, AB]).followed_by([AX, NONE])


@pytest.mark.parametrize(
    ("prefix", "is_exact", "expected"),
    [
        (["a"], False, [True, True, True, False, False]),
        (["a"], True, [True, False, False, False, False]),
        (["a", "b"], False, [False, True, True, False, False]),
        (["a\u2028"], False, [False, False, False, True, False]),
        (["a", "b", "c"], False, [False] * 5),
        (["b"], False, [False] * 5),
    ],
)
def test_rows_whose_namespace_begins_with_the_prefix_are_selected(
    prefix: list[str], is_exact: bool, expected: list[bool]
) -> None:
    selection = ItemSelection(prefix=prefix, is_exact=is_exact)
    assert made().selected(selection, ROWS).tolist() == expected


def test_rows_keep_their_namespaces_in_another_order_and_unused_ones_go() -> None:
    taken = made().take(np.array([3, 1]))
    assert [taken.texts[number] for number in taken.of_row] == [AX, AB]
    assert set(taken.texts) == {AX, AB}


def test_rows_of_known_namespaces_share_the_list() -> None:
    first = made()
    second = first.followed_by([AB])
    assert second.texts is first.texts
    assert first.of_row.tolist() == [0, 1, 1, 2, 3]
    assert second.of_row.tolist() == [0, 1, 1, 2, 3, 1]
