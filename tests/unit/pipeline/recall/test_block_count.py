"""How many blocks a result takes that is limited by tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from luma_memory.pipeline.recall.block_count import block_count, most_blocks


@pytest.mark.parametrize(
    ("z_scores", "count"),
    [
        ([9.0, *[2.0] * 40], 8),  # steep: one block stands out
        ([4.0] * 13 + [1.0] * 30, 13),
        ([4.0] * 50, 20),  # flat
        ([4.0, 3.9, 3.8], 3),  # the whole scope
        ([], 0),
        ([-0.5, -0.6, *[-0.7] * 20], 8),  # nothing stands out
    ],
)
def test_a_flat_ranking_has_more_blocks_and_a_steep_one_fewer(
    z_scores: Sequence[float], count: int
) -> None:
    assert block_count(z_scores, 10) == count


@pytest.mark.parametrize("usual", [1, 2, 3, 10, 200])
def test_any_usual_count_has_at_least_one_block_and_at_most_twice_as_many(usual: int) -> None:
    steep, flat = [9.0, *[0.0] * 500], [9.0] * 500
    assert 1 <= block_count(steep, usual) <= usual
    assert block_count(flat, usual) == most_blocks(usual) == 2 * usual
