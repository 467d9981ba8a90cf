"""The share of a question's words in each passage, and its names that are unknown in the scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.groups import Indices
from luma_memory.pipeline.recall.postings import Posting
from luma_memory.pipeline.text.terms import QueryTerm, idf

# A question with a code is mainly about that code: "What does E0277 mean?"
CODE_WEIGHT: Final = 2.0
# In a language whose meaning the embedding model does not read, a word that is nowhere is evidence
# against all passages: "the dog's name" and a note of the cat's.
ABSENT_WEIGHT: Final = 1.5


@dataclass(frozen=True, slots=True)
class TimeWords:
    """Terms that name the time of a question, which the blocks of that time need not have."""

    terms: frozenset[str]
    passages: Indices  # those of the time


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a question's words the passages have."""

    weights: npt.NDArray[np.float32]  # [n] idf of the words that the passage has
    whole: float  # idf of all words
    # 0..1, the share of identifiers (codes, numbers, names) that no passage has; for passages of
    # the time that the question names, those that name it do not count.
    unknown: float
    unknown_in_time: float
    lacking: npt.NDArray[np.uint8]  # [n] how many required terms the passage has not

    def share(self, passages: slice | Indices) -> npt.NDArray[np.float32]:
        """[k] 0..1, by idf."""
        found: npt.NDArray[np.float32] = self.weights[passages] / np.float32(self.whole)
        return np.minimum(found, np.float32(1.0), out=found)


def coverage_of(
    words: Sequence[tuple[QueryTerm, Posting]], passage_count: int, time: TimeWords
) -> Coverage:
    """words: each word of the question with the passages that have it. A word that no passage has
    counts as if one passage had it: in a small scope it would outweigh all others.
    """
    present = _present(words)
    covered = np.zeros(passage_count, dtype=np.float32)
    lacking = np.zeros(passage_count, dtype=np.uint8)
    whole = identifiers = unknown = unknown_in_time = 0.0
    for term, _ in words:
        if not term.is_direct:
            continue
        having = present[term.word]
        frequency = len(having)
        weight = idf(max(frequency, 1), passage_count)
        if term.kind == "code":
            weight *= CODE_WEIGHT
        elif frequency == 0 and term.is_literal:
            weight *= ABSENT_WEIGHT
        whole += weight
        is_time = term.term in time.terms
        if is_time:
            having = np.union1d(having, time.passages)
        covered[having] += np.float32(weight)
        if term.is_required:
            lacking += np.uint8(1)
            lacking[having] -= np.uint8(1)
        if term.is_identifier:
            identifiers += 1
            unknown += frequency == 0
            unknown_in_time += frequency == 0 and not is_time
    identifiers = identifiers or 1.0
    return Coverage(
        covered, whole or 1.0, unknown / identifiers, unknown_in_time / identifiers, lacking
    )


def _present(words: Sequence[tuple[QueryTerm, Posting]]) -> Mapping[int, Indices]:
    """The passages that contain each word, alone or as part of a longer one."""
    present = {term.word: posting.passages for term, posting in words}
    for term, posting in words:
        for word in term.covers:
            present[word] = np.union1d(present[word], posting.passages)
    return present
