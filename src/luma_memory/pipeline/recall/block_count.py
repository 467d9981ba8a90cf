"""How many blocks a result has that is limited by tokens: more of a flat ranking, fewer of a steep
one.

A question about one fact has one block far above the others, and what follows is padding. The
evidence of a list is spread over blocks that differ little. Measured in docs/recall.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

# A block counts while its z-score is at least this share of the best one's.
SHARE_OF_BEST: Final = 0.65
# Around the usual count: 8 to 20 of 10.
_FEWEST: Final = 0.8
_MOST: Final = 2


def most_blocks(usual: int) -> int:
    """The highest count."""
    return _MOST * usual


def block_count(z_scores: Sequence[float], usual: int) -> int:
    """How many of the blocks to take, of a ranking that is `most_blocks` deep.

    z_scores: descending. usual: the count of a ranking that is neither flat nor steep.
    """
    if not z_scores:
        return 0
    within = sum(value >= SHARE_OF_BEST * z_scores[0] for value in z_scores)
    return min(max(within, math.ceil(_FEWEST * usual)), most_blocks(usual), len(z_scores))
