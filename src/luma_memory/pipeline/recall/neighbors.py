"""Adjacent turns of a session: the previous or next turn may contain terms that a block lacks.

A chat names its subject once and continues with "it"; the reply is in the turn after the question.
So a passage borrows each query term that it lacks from the adjacent turns, at a share of the term's
weight there. A term that the passage contains counts unchanged: repetition adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

NEIGHBOR_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """Each block's position in its session; all arrays [m]."""

    previous: npt.NDArray[np.intp]  # the turn before; -1 at the beginning and without a session
    following: npt.NDArray[np.intp]  # the turn after; -1 likewise
    session: npt.NDArray[np.intp]  # 0.., equal in one session; a block without one has its own


def in_sessions(sessions: npt.NDArray[np.int64], instants: npt.NDArray[np.int64]) -> Neighbors:
    """Order the blocks of each session by time.

    Blocks are numbered newest first; blocks of equal instants (a client may know only when the
    session began) are ordered by arrival. sessions: 0 is none.
    """
    count = len(sessions)
    previous = np.full(count, -1, dtype=np.intp)
    following = np.full(count, -1, dtype=np.intp)
    session = np.zeros(count, dtype=np.intp)
    if count == 0:
        return Neighbors(previous, following, session)
    order = np.lexsort((-np.arange(count), instants, sessions))
    earlier, later = order[:-1], order[1:]
    joined = (sessions[earlier] == sessions[later]) & (sessions[later] != 0)
    previous[later[joined]] = earlier[joined]
    following[earlier[joined]] = later[joined]
    session[order] = np.cumsum(np.append(True, ~joined)) - 1
    return Neighbors(previous, following, session)


def with_neighbors(
    weights: npt.NDArray[np.float32],
    block: npt.NDArray[np.intp],
    neighbors: Neighbors,
    *,
    share: float = NEIGHBOR_SHARE,
) -> npt.NDArray[np.float32]:
    """[n] a term's weight in each passage, or the share of its weight in the adjacent blocks.

    weights: [n] by passage, block: [n] each passage's block. Never below `weights`.
    """
    best = np.zeros(len(neighbors.previous) + 1, dtype=np.float32)  # the last: of no block
    matching = np.flatnonzero(weights)
    np.maximum.at(best, block[matching], weights[matching])
    lent = np.maximum(best[neighbors.previous], best[neighbors.following]) * np.float32(share)
    return np.maximum(weights, lent[block])
