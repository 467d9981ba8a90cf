"""Which share of a question's words each passage has, and what of it the scope does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.events import Weights
from luma_memory.pipeline.text.terms import QueryTerm, idf

# A question with a code is about little else: "What does E0277 mean?"
CODE_WEIGHT: Final = 2.0


def covered_share(
    words: Sequence[tuple[QueryTerm, Weights]], passage_count: int
) -> tuple[npt.NDArray[np.float32], float]:
    """([n] share of the question's words that each passage has, by idf; share of unknown names).

    words: each word of the question with its weights in the n passages. A word that no passage has
    counts like one that a single passage has: in a small scope it would outweigh all others. The
    second value, 0..1, is the share of identifiers (codes, numbers, names) that no passage has.
    """
    present = _present(words)
    covered = np.zeros(passage_count, dtype=np.float32)
    whole = identifiers = unknown = 0.0
    for term, _ in words:
        if not term.is_direct:
            continue
        has_word = present[term.word]
        frequency = int(np.count_nonzero(has_word))
        weight = idf(max(frequency, 1), passage_count)
        if term.kind == "code":
            weight *= CODE_WEIGHT
        whole += weight
        covered += has_word * np.float32(weight)
        if term.is_identifier:
            identifiers += 1
            unknown += frequency == 0
    share = np.minimum(covered / np.float32(whole or 1.0), np.float32(1.0))
    return share, unknown / identifiers if identifiers else 0.0


def _present(
    words: Sequence[tuple[QueryTerm, Weights]],
) -> Mapping[int, npt.NDArray[np.bool_]]:
    """[n] by word: whether a passage has it, by itself or as part of a longer one."""
    present = {term.word: weights > 0 for term, weights in words}
    for term, weights in words:
        for word in term.covers:
            present[word] = present[word] | (weights > 0)
    return present
