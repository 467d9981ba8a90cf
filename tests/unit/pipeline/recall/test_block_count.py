"""How many blocks a result takes that is limited by tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from luma_memory.pipeline.recall.block_count import chosen_blocks, most_blocks


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
    assert chosen_blocks(z_scores, [80] * len(z_scores), 10) == list(range(count))


def test_a_long_block_must_rank_higher_and_a_short_one_may_rank_lower() -> None:
    z_scores = [4.0] * 8 + [2.8, 2.7, 2.5]  # 2.6 is the limit for a block of the mean length
    assert chosen_blocks(z_scores, [500] * 8 + [1_000, 500, 100], 10) == [*range(8), 9, 10]
    assert chosen_blocks(z_scores, [500] * 11, 10) == list(range(10))
    # Of the first ones none is left out, however long.
    assert chosen_blocks([4.0, *[3.0] * 9], [10, 100_000, *[10] * 8], 10) == list(range(10))


def test_lengths_of_nothing_are_no_error() -> None:
    assert chosen_blocks([3.0] * 12, [0] * 12, 10) == list(range(12))


@pytest.mark.parametrize("usual", [1, 2, 3, 10, 200])
def test_any_usual_count_has_at_least_one_block_and_at_most_twice_as_many(usual: int) -> None:
    steep, flat = [9.0, *[0.0] * 500], [9.0] * 500
    lengths = [50] * 501
    assert 1 <= len(chosen_blocks(steep, lengths, usual)) <= usual
    assert len(chosen_blocks(flat, lengths, usual)) == most_blocks(usual) == 2 * usual
