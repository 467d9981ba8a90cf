"""The share of a question's words in each passage, and its names that are unknown in the scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.groups import Indices
from luma_memory.pipeline.recall.postings import Posting
from luma_memory.pipeline.text.terms import QueryTerm, idf

# A question with a code is mainly about that code: "What does E0277 mean?"
CODE_WEIGHT: Final = 2.0


def covered_share(
    words: Sequence[tuple[QueryTerm, Posting]], passage_count: int
) -> tuple[npt.NDArray[np.float32], float]:
    """([n] share of the question's words that each passage has, by idf; share of unknown names).

    words: each word of the question with the passages that have it. A word that no passage has
    counts as if one passage had it: in a small scope it would outweigh all others. The
    second value, 0..1, is the share of identifiers (codes, numbers, names) that no passage has.
    """
    present = _present(words)
    covered = np.zeros(passage_count, dtype=np.float32)
    whole = identifiers = unknown = 0.0
    for term, _ in words:
        if not term.is_direct:
            continue
        having = present[term.word]
        frequency = len(having)
        weight = idf(max(frequency, 1), passage_count)
        if term.kind == "code":
            weight *= CODE_WEIGHT
        whole += weight
        covered[having] += np.float32(weight)
        if term.is_identifier:
            identifiers += 1
            unknown += frequency == 0
    share = np.minimum(covered / np.float32(whole or 1.0), np.float32(1.0))
    return share, unknown / identifiers if identifiers else 0.0


def _present(words: Sequence[tuple[QueryTerm, Posting]]) -> Mapping[int, Indices]:
    """The passages that contain each word, alone or as part of a longer one."""
    present = {term.word: posting.passages for term, posting in words}
    for term, posting in words:
        for word in term.covers:
            present[word] = np.union1d(present[word], posting.passages)
    return present
