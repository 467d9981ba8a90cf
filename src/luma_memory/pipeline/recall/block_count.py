"""Which blocks a result limited by tokens has: more of a flat ranking, fewer of a steep one.

A question about one fact has one block far above the others, and what follows is padding. The
evidence of a list is spread over blocks that differ little. A long block takes the place of several
short ones, so it must rank somewhat higher. Measured in docs/recall.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

# A block counts while its z-score is at least this share of the best one's, for a block of the mean
# length; for one twice as long the share is 1.11 times as high.
SHARE_OF_BEST: Final = 0.65
LENGTH_EXPONENT: Final = 0.15
# Around the usual count: 8 to 20 of 10.
_FEWEST: Final = 0.8
_MOST: Final = 2


def most_blocks(usual: int) -> int:
    """The highest count."""
    return _MOST * usual


def chosen_blocks(
    z_scores: Sequence[float],
    lengths: Sequence[int],
    usual: int,
    *,
    length_exponent: float = LENGTH_EXPONENT,
) -> Sequence[int]:
    """Places of the blocks to take, ascending, of a ranking that is `most_blocks` deep.

    z_scores: descending. lengths: of the same blocks, in characters. usual: the count of a ranking
    that is neither flat nor steep. The first 0.8 of it are always taken.
    """
    if not z_scores:
        return []
    fewest = math.ceil(_FEWEST * usual)
    mean = max(fmean(lengths[:fewest]), 1.0)
    return [
        place
        for place, (z_score, length) in enumerate(
            zip(z_scores[: most_blocks(usual)], lengths, strict=False)
        )
        if place < fewest
        or z_score >= SHARE_OF_BEST * z_scores[0] * (max(length, 1) / mean) ** length_exponent
    ]
