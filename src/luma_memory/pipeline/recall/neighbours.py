"""The turns beside a turn: the one before or after may have words that a block lacks.

A chat names its subject once and goes on with "it"; an answer is in the turn after the question. So
a passage lends each query term that it lacks from its neighbours in the session, at a share of what
the term weighs there. A term that it has counts unchanged: saying it twice adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

NEIGHBOUR_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Each block's place in its session, [m] all."""

    previous: npt.NDArray[np.intp]  # the turn before; -1 at the beginning and without a session
    following: npt.NDArray[np.intp]  # the turn after; -1 likewise
    session: npt.NDArray[np.intp]  # 0.., equal in one session; a block without one has its own


def in_sessions(sessions: npt.NDArray[np.int64], instants: npt.NDArray[np.int64]) -> Neighbours:
    """Order the blocks of each session by time.

    Blocks are numbered newest first, and of equal instants (a client may know only when the session
    began) the one that came earlier goes before. sessions: 0 is none.
    """
    count = len(sessions)
    previous = np.full(count, -1, dtype=np.intp)
    following = np.full(count, -1, dtype=np.intp)
    session = np.zeros(count, dtype=np.intp)
    if count == 0:
        return Neighbours(previous, following, session)
    order = np.lexsort((-np.arange(count), instants, sessions))
    earlier, later = order[:-1], order[1:]
    joined = (sessions[earlier] == sessions[later]) & (sessions[later] != 0)
    previous[later[joined]] = earlier[joined]
    following[earlier[joined]] = later[joined]
    session[order] = np.cumsum(np.append(True, ~joined)) - 1
    return Neighbours(previous, following, session)


def with_neighbours(
    weights: npt.NDArray[np.float32],
    block: npt.NDArray[np.intp],
    neighbours: Neighbours,
    *,
    share: float = NEIGHBOUR_SHARE,
) -> npt.NDArray[np.float32]:
    """[n] a term's weight in each passage, or the share of its weight in the blocks beside it.

    weights: [n] by passage, block: [n] each passage's block. Never below `weights`.
    """
    best = np.zeros(len(neighbours.previous) + 1, dtype=np.float32)  # the last: of no block
    matching = np.flatnonzero(weights)
    np.maximum.at(best, block[matching], weights[matching])
    lent = np.maximum(best[neighbours.previous], best[neighbours.following]) * np.float32(share)
    return np.maximum(weights, lent[block])
