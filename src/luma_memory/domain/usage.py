"""Costs of calls of model providers, and daily spending limits of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from luma_memory.domain.scope import Scope

# "query" is the embedding of a question, "synthesis" the text of a context.
Operation = Literal[
    "enrichment", "embedding", "reembedding", "query", "synthesis", "relations", "summaries"
]

# The cost of one block in the synchronous design, known to operators: one enrichment, and
# one embedding, in US dollars.
OLD_ENRICHMENT_USD = Decimal("0.002")
OLD_EMBEDDING_USD = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class UsageKey:
    """The key by which calls are counted. The day is in UTC."""

    day: date
    scope: Scope
    operation: str
    model: str  # "vendor/model"


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls with their tokens and cost."""

    calls: int = 0  # a call that many blocks share counts once for each
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)  # estimated; 0 where no price is known
    blocks: int = 0  # blocks that the calls were made for

    def plus(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
            self.blocks + other.blocks,
        )

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_per_block_usd(self) -> Decimal | None:
        """None without any block."""
        return self.cost_usd / self.blocks if self.blocks else None


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """The usage of one key."""

    key: UsageKey
    spent: Spent


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """A user's limits per UTC day; None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    cost_usd: Decimal | None = None

    @property
    def any(self) -> bool:
        return (self.calls, self.tokens, self.cost_usd) != (None, None, None)

    def reached_by(self, spent: Spent) -> bool:
        """Whether one of the limits is reached."""
        return (
            (self.calls is not None and spent.calls >= self.calls)
            or (self.tokens is not None and spent.tokens >= self.tokens)
            or (self.cost_usd is not None and spent.cost_usd >= self.cost_usd)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Selects entries; None does not restrict. Days from `since` to `until`, both included."""

    project_id: str | None
    user_id: str | None = None
    since: date
    until: date


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Where prices come from, and how old they are."""

    source: str  # package and version
    dated: date | None  # the latest day a price was checked, as its authors state


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The usage in a period."""

    lines: Sequence[UsageEntry]
    total: Spent
    by_operation: dict[str, Spent]
    unpriced_models: Sequence[str]  # took tokens, but no price is known
    prices: PriceTable
