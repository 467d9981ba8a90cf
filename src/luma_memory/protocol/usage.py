"""The providers' account on the wire."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field, PlainSerializer

from luma_memory.domain.enrichment import PendingBackfillCounts
from luma_memory.domain.usage import (
    OLD_EMBEDDING_USD,
    OLD_ENRICHMENT_USD,
    Spent,
    UsageEntry,
    UsageReport,
)

# A number, as everywhere in JSON; eight decimals are the table's own.
Usd = Annotated[Decimal, PlainSerializer(lambda value: round(float(value), 8), return_type=float)]
_OLD_USD = {"enrichment": OLD_ENRICHMENT_USD, "embedding": OLD_EMBEDDING_USD}


class SpentBody(BaseModel):
    """Calls and what they took."""

    calls: int = Field(description="A request that blocks share counts once for each of them.")
    input_tokens: int
    output_tokens: int
    cost_usd: Usd = Field(description="Estimated; 0 where no price is known.")
    blocks: int = Field(description="That the calls did their work for.")
    cost_per_block_usd: Usd | None

    @classmethod
    def of(cls, spent: Spent) -> SpentBody:
        return cls(**_values(spent))


class UsageLineBody(SpentBody):
    """One day (UTC), operation and model."""

    day: date
    operation: str
    model: str

    @classmethod
    def of_line(cls, line: UsageEntry) -> UsageLineBody:
        key = line.key
        values = _values(line.spent)
        return cls(day=key.day, operation=key.operation, model=key.model, **values)


class OperationBody(SpentBody):
    """One operation in the whole period, beside what a block cost in the synchronous design."""

    operation: str
    old_cost_per_block_usd: Usd | None

    @classmethod
    def of_operation(cls, operation: str, spent: Spent) -> OperationBody:
        old = _OLD_USD.get(operation)
        return cls(operation=operation, old_cost_per_block_usd=old, **_values(spent))


class PriceTableBody(BaseModel):
    """Where prices come from, and how old they are."""

    source: str
    dated: date | None = Field(description="The newest day on which its makers checked a price.")


class OwedBody(BaseModel):
    """Active blocks that lack something a provider should have made."""

    due: int = Field(description="Being made now.")
    later: int = Field(description="To be tried again.")
    asked: int = Field(description="Only when asked for: `luma-memory backfill`.")

    @classmethod
    def of(cls, owed: PendingBackfillCounts) -> OwedBody:
        return cls(due=owed.due, later=owed.later, asked=owed.asked)


class UsageBody(BaseModel):
    """What calls of model providers took. Local work costs nothing and is not counted."""

    since: date
    until: date
    total: SpentBody
    operations: list[OperationBody]
    lines: list[UsageLineBody] = Field(description="Newest day first.")
    unpriced_models: list[str] = Field(description="Took tokens, but no price is known.")
    prices: PriceTableBody
    owed: OwedBody

    @classmethod
    def of(
        cls, report: UsageReport, owed: PendingBackfillCounts, *, since: date, until: date
    ) -> UsageBody:
        return cls(
            since=since,
            until=until,
            total=SpentBody.of(report.total),
            operations=[
                OperationBody.of_operation(name, spent)
                for name, spent in sorted(report.by_operation.items())
            ],
            lines=[UsageLineBody.of_line(line) for line in report.lines],
            unpriced_models=list(report.unpriced_models),
            prices=PriceTableBody(source=report.prices.source, dated=report.prices.dated),
            owed=OwedBody.of(owed),
        )


def _values(spent: Spent) -> dict[str, int | Decimal | None]:
    return {
        "calls": spent.calls,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": spent.cost_usd,
        "blocks": spent.blocks,
        "cost_per_block_usd": spent.cost_per_block_usd,
    }
