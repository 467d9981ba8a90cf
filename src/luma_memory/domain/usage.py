"""What calls of model providers cost, and how much a user may spend in a day."""

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

# What one block cost in the synchronous design, whose figures operators know: one enrichment, and
# one embedding, in US dollars.
OLD_ENRICHMENT_USD = Decimal("0.002")
OLD_EMBEDDING_USD = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class UsageKey:
    """What calls are counted by. The day is the UTC one."""

    day: date
    scope: Scope
    operation: str
    model: str  # "vendor/model"


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls and what they took."""

    calls: int = 0  # a call that many blocks share counts once for each
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)  # estimated; 0 where no price is known
    blocks: int = 0  # that the calls did their work for

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
        """None while no block came of it."""
        return self.cost_usd / self.blocks if self.blocks else None


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """One line of the account."""

    key: UsageKey
    spent: Spent


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """What one user may take of the providers in a UTC day; None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    cost_usd: Decimal | None = None

    @property
    def any(self) -> bool:
        return (self.calls, self.tokens, self.cost_usd) != (None, None, None)

    def reached_by(self, spent: Spent) -> bool:
        """Whether one of them is used up."""
        return (
            (self.calls is not None and spent.calls >= self.calls)
            or (self.tokens is not None and spent.tokens >= self.tokens)
            or (self.cost_usd is not None and spent.cost_usd >= self.cost_usd)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Which lines; None does not narrow. Days from `since` to `until`, both included."""

    project_id: str | None
    user_id: str | None = None
    since: date
    until: date


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Where prices come from, and how old they are."""

    source: str  # package and version
    dated: date | None  # the newest day on which its makers say they checked a price


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The account of a period."""

    lines: Sequence[UsageEntry]
    total: Spent
    by_operation: dict[str, Spent]
    unpriced_models: Sequence[str]  # took tokens, but no price is known
    prices: PriceTable
