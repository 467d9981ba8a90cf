"""Measures of retrieval quality.

Each ranking is scored by the items that contain the answer. Groups are never mixed: `main` is the
one that counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from luma_memory.cli.evaluation.dataset import Query

CUTOFFS: Final = (5, 10, 20)
MAIN_GROUP: Final = "main"
NDCG_CUTOFF: Final = 10


@dataclass(frozen=True, slots=True)
class Measures:
    """Each in 0..1. The mappings have the keys CUTOFFS."""

    recall: Mapping[int, float]  # share of the evidence among the first k
    hit: Mapping[int, float]  # 1 if any of the evidence is among the first k
    reciprocal_rank: float  # 1 / rank of the first evidence, 0 if the ranking has none
    ndcg: float  # at NDCG_CUTOFF, an item being relevant or not
    # By sessions, ranked by their best item: 1 if any, or all, with evidence are among the first k.
    session_any: Mapping[int, float]
    session_all: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class QueryScore:
    """The measures of one question."""

    query: Query
    measures: Measures


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Means over the questions of one group, or of one category in it."""

    group: str
    category: str | None  # None: all of the group
    query_count: int
    measures: Measures


def score_query(
    query: Query, ranking: Sequence[str], sessions: Mapping[str, str]
) -> QueryScore | None:
    """Score a ranking of item ids, best first, by a question's evidence; None without evidence.

    sessions: of the items; an item without one is a session of its own.

    An id that appears twice counts at its first rank only: several passages of one item are worth
    no more than one.
    """
    relevant = frozenset(query.evidence)
    if not relevant:
        return None
    ranked = tuple(dict.fromkeys(ranking))
    ranked_sessions = tuple(dict.fromkeys(sessions.get(item, item) for item in ranked))
    relevant_sessions = frozenset(sessions.get(item, item) for item in relevant)
    measures = Measures(
        recall=MappingProxyType({k: recall_at(k, ranked, relevant) for k in CUTOFFS}),
        hit=MappingProxyType({k: hit_at(k, ranked, relevant) for k in CUTOFFS}),
        reciprocal_rank=reciprocal_rank(ranked, relevant),
        ndcg=ndcg_at(NDCG_CUTOFF, ranked, relevant),
        session_any=MappingProxyType(
            {k: hit_at(k, ranked_sessions, relevant_sessions) for k in CUTOFFS}
        ),
        session_all=MappingProxyType(
            {k: all_at(k, ranked_sessions, relevant_sessions) for k in CUTOFFS}
        ),
    )
    return QueryScore(query, measures)


def recall_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Share of `relevant` (not empty) among the first k."""
    return sum(item in relevant for item in ranking[:k]) / len(relevant)


def hit_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1.0 if at least one of the first k is relevant, else 0.0."""
    return float(any(item in relevant for item in ranking[:k]))


def all_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1.0 if all of `relevant` are among the first k, else 0.0."""
    return float(set(relevant) <= set(ranking[:k]))


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant one, counted from 1; 0.0 without one."""
    ranks = (rank for rank, item in enumerate(ranking, 1) if item in relevant)
    return 1.0 / rank if (rank := next(ranks, 0)) else 0.0


def ndcg_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Normalized discounted cumulative gain with gains 0 and 1 (Järvelin and Kekäläinen, 2002)."""
    gained = sum(
        1.0 / math.log2(rank + 1) for rank, item in enumerate(ranking[:k], 1) if item in relevant
    )
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(len(relevant), k) + 1))
    return gained / ideal


def summarize(scores: Iterable[QueryScore]) -> Sequence[SummaryRow]:
    """One row per group and per category in it: `main` first, then by name, each group before its
    categories.
    """
    collected: dict[tuple[str, str], list[Measures]] = {}
    for score in scores:
        group = score.query.group
        for category in ("", score.query.category or "-"):
            collected.setdefault((group, category), []).append(score.measures)
    order = sorted(collected, key=lambda key: (key[0] != MAIN_GROUP, *key))
    return [
        SummaryRow(group, category or None, len(measures), _mean(measures))
        for group, category in order
        if (measures := collected[group, category])
    ]


def _mean(measures: Sequence[Measures]) -> Measures:
    """All questions have the same weight, whatever their conversation."""
    count = len(measures)

    def at_cutoffs(of: Callable[[Measures], Mapping[int, float]]) -> Mapping[int, float]:
        return MappingProxyType({k: math.fsum(of(m)[k] for m in measures) / count for k in CUTOFFS})

    return Measures(
        recall=at_cutoffs(lambda m: m.recall),
        hit=at_cutoffs(lambda m: m.hit),
        reciprocal_rank=math.fsum(m.reciprocal_rank for m in measures) / count,
        ndcg=math.fsum(m.ndcg for m in measures) / count,
        session_any=at_cutoffs(lambda m: m.session_any),
        session_all=at_cutoffs(lambda m: m.session_all),
    )
