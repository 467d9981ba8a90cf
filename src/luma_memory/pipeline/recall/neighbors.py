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

from luma_memory.pipeline.recall.groups import Indices, PassageGroups
from luma_memory.pipeline.recall.postings import Posting
from luma_memory.pipeline.recall.sorting import sorted_order

NEIGHBOR_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """Each block's position in its session; arrays [m] but for the last."""

    previous: Indices  # the turn before; -1 at the beginning and without a session
    following: Indices  # the turn after; -1 likewise
    session: Indices  # 0.., equal in one session; a block without one has its own
    order: Indices  # the blocks by session and time
    starts: Indices  # [sessions] where each begins in `order`


def in_sessions(
    sessions: npt.NDArray[np.int64],
    instants: npt.NDArray[np.int64],
    *,
    near: Indices | None = None,
) -> Neighbors:
    """Order the blocks of each session by time.

    Blocks are numbered newest first; blocks of equal instants (a client may know only when the
    session began) are ordered by arrival. sessions: 0 is none. near: the blocks in nearly their
    order, if that is known: it saves most of the sorting.
    """
    count = len(sessions)
    numbers = np.arange(count)
    order = sorted_order(sessions, (instants, -numbers), near=numbers if near is None else near)
    earlier, later = order[:-1], order[1:]
    joined = (sessions[earlier] == sessions[later]) & (sessions[later] != 0)
    previous = np.full(count, -1, dtype=np.intp)
    following = np.full(count, -1, dtype=np.intp)
    previous[later[joined]] = earlier[joined]
    following[earlier[joined]] = later[joined]
    starts = np.flatnonzero(np.append(True, ~joined)[:count])
    sizes = np.diff(np.append(starts, count))
    session = np.empty(count, dtype=np.intp)
    session[order] = np.repeat(np.arange(len(starts)), sizes)
    return Neighbors(previous, following, session, order, starts)


class TermWeights:
    """One term's weights by passage and what blocks borrow of them; all 0 between two terms.

    Made once a question: the arrays are as long as the scope, and a term is in few passages.
    """

    def __init__(self, groups: PassageGroups) -> None:
        self.lent = np.zeros(groups.count + 1, dtype=np.float32)  # the last, at -1, is of no block
        # Where each passage is a block, a single array does.
        self.own = self.lent if groups.is_plain else np.zeros(len(groups.block), dtype=np.float32)


def with_neighbors(
    posting: Posting,
    groups: PassageGroups,
    neighbors: Neighbors,
    weights: TermWeights | None = None,
    *,
    share: float = NEIGHBOR_SHARE,
) -> tuple[Indices, npt.NDArray[np.float32]]:
    """Passages and the term's weight in each, or the share of its weight in the adjacent blocks.

    No weight is below that of the posting. A passage may come twice, with the same weight.
    weights: of these groups, to be used again.
    """
    weights = weights or TermWeights(groups)
    own, lent = weights.own, weights.lent
    blocks, best = _best_of_blocks(posting, groups)
    previous, following = neighbors.previous[blocks], neighbors.following[blocks]
    best = best * np.float32(share)
    # No block is before two others, or after two.
    lent[previous] = best
    lent[following] = np.maximum(lent[following], best)
    lent[-1] = 0.0
    adjacent = np.concatenate([previous, following])
    borrowing = groups.members(adjacent[adjacent >= 0])
    passages = np.concatenate([posting.passages, borrowing])
    if groups.is_plain:
        own[posting.passages] = np.maximum(own[posting.passages], posting.weights)
        found = own[passages]
    else:
        own[posting.passages] = posting.weights
        found = np.maximum(own[passages], lent[groups.block[passages]])
    own[posting.passages] = 0.0
    lent[adjacent] = 0.0
    return passages, found


def _best_of_blocks(
    posting: Posting, groups: PassageGroups
) -> tuple[Indices, npt.NDArray[np.float32]]:
    """The blocks of a posting, each once, and the largest weight in each."""
    blocks = groups.of(posting.passages)
    if groups.is_plain or not len(blocks):
        return blocks, posting.weights
    order = np.argsort(blocks, kind="stable")  # one pass where they rise already
    blocks = blocks[order]
    starts = np.flatnonzero(np.r_[True, blocks[1:] != blocks[:-1]])
    return blocks[starts], np.maximum.reduceat(posting.weights[order], starts)
