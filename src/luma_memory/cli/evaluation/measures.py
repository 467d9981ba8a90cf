"""Retrieval quality: the data format memory-retrieval/1 and the measures over it.

A conversation is stored in an empty scope, its questions are asked, and each ranking is scored by
the items that answer the question. Groups are never mixed: `main` is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luma_memory.domain.errors import Invalid

CUTOFFS: Final = (5, 10, 20)
MAIN_GROUP: Final = "main"
NDCG_CUTOFF: Final = 10


class _Record(BaseModel):
    """Strict about what it knows, silent about fields of a later minor version."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Item(_Record):
    """One dialog turn: one memory."""

    id: str = Field(min_length=1)
    session: str
    speaker: str
    text: str
    caption: str | None = None
    time: datetime | None = None  # start of the session; as written, mostly without a zone

    @property
    def content(self) -> str:
        """The text a system stores."""
        caption = f" [image: {self.caption}]" if self.caption else ""
        return f"{self.speaker}: {self.text}{caption}"

    @property
    def occurred_at(self) -> datetime | None:
        """`time` as an aware instant; without a zone it is taken as UTC."""
        if self.time is None or self.time.tzinfo is not None:
            return self.time
        return self.time.replace(tzinfo=UTC)


class Query(_Record):
    """One question and the ids of the items that answer it."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    category: str
    group: str
    evidence: Sequence[str]  # empty: nothing stored answers it; then it is not scored
    answer: str | None = None


class Conversation(_Record):
    """What is stored together in one empty scope, and what is asked about it."""

    id: str = Field(min_length=1)
    speakers: Sequence[str]
    items: Sequence[Item]  # in the order they were said; ids unique
    queries: Sequence[Query]

    @model_validator(mode="after")
    def _ids_agree(self) -> Conversation:
        known = {item.id for item in self.items}
        if len(known) != len(self.items):
            raise ValueError("two items have the same id")
        for query in self.queries:
            if unknown := sorted(set(query.evidence) - known):
                raise ValueError(f"query {query.id} names evidence that is no item: {unknown}")
        return self


class Dataset(_Record):
    """One file."""

    format: Literal["memory-retrieval/1"]
    name: str
    license: str = ""
    source: str = ""
    conversations: Sequence[Conversation]


def read_dataset(document: bytes | str) -> Dataset:
    """The data set in a JSON document.

    Raises Invalid (code `invalid_dataset`) naming the first place that does not fit.
    """
    try:
        return Dataset.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "document"
        raise Invalid(
            f"not a memory-retrieval/1 file: {place}: {first['msg']}",
            code="invalid_dataset",
            field=place,
        ) from error


@dataclass(frozen=True, slots=True)
class Measures:
    """Each in 0..1. The mappings have the keys CUTOFFS."""

    recall: Mapping[int, float]  # share of the evidence among the first k
    hit: Mapping[int, float]  # 1 if any of the evidence is among the first k
    reciprocal_rank: float  # 1 / rank of the first evidence, 0 if the ranking has none
    ndcg: float  # at NDCG_CUTOFF, an item being relevant or not


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


def score_query(query: Query, ranking: Sequence[str]) -> QueryScore | None:
    """How well a ranking of item ids, best first, answers a question; None without evidence.

    An id that comes twice counts at its first place only: several passages of one item are no
    better answer than one.
    """
    relevant = frozenset(query.evidence)
    if not relevant:
        return None
    ranked = tuple(dict.fromkeys(ranking))
    measures = Measures(
        recall=MappingProxyType({k: recall_at(k, ranked, relevant) for k in CUTOFFS}),
        hit=MappingProxyType({k: hit_at(k, ranked, relevant) for k in CUTOFFS}),
        reciprocal_rank=reciprocal_rank(ranked, relevant),
        ndcg=ndcg_at(NDCG_CUTOFF, ranked, relevant),
    )
    return QueryScore(query, measures)


def recall_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Share of `relevant` (not empty) among the first k."""
    return sum(item in relevant for item in ranking[:k]) / len(relevant)


def hit_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1.0 if at least one of the first k is relevant, else 0.0."""
    return float(any(item in relevant for item in ranking[:k]))


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant one, counted from 1; 0.0 without one."""
    ranks = (rank for rank, item in enumerate(ranking, 1) if item in relevant)
    return 1.0 / rank if (rank := next(ranks, 0)) else 0.0


def ndcg_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Normalised discounted cumulative gain with gains 0 and 1 (Järvelin and Kekäläinen, 2002)."""
    gained = sum(
        1.0 / math.log2(rank + 1) for rank, item in enumerate(ranking[:k], 1) if item in relevant
    )
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(len(relevant), k) + 1))
    return gained / ideal


def summarize(scores: Iterable[QueryScore]) -> Sequence[SummaryRow]:
    """One row a group and one a category in it, `main` first, else by name; each group leads."""
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
    """Every question weighs the same, whichever conversation it is of."""
    count = len(measures)
    return Measures(
        recall=MappingProxyType(
            {k: math.fsum(m.recall[k] for m in measures) / count for k in CUTOFFS}
        ),
        hit=MappingProxyType({k: math.fsum(m.hit[k] for m in measures) / count for k in CUTOFFS}),
        reciprocal_rank=math.fsum(m.reciprocal_rank for m in measures) / count,
        ndcg=math.fsum(m.ndcg for m in measures) / count,
    )
