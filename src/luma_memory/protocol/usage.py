"""Model usage and cost on the wire."""

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

# A JSON number, rounded to the table's eight decimals.
Usd = Annotated[Decimal, PlainSerializer(lambda value: round(float(value), 8), return_type=float)]
_OLD_USD = {"enrichment": OLD_ENRICHMENT_USD, "embedding": OLD_EMBEDDING_USD}


class SpentBody(BaseModel):
    """Calls with their tokens and cost."""

    calls: int = Field(description="A request shared by several blocks counts once per block.")
    input_tokens: int
    output_tokens: int
    cost_usd: Usd = Field(description="Estimated; 0 if the model's price is unknown.")
    blocks: int = Field(description="Blocks that the calls were made for.")
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
    """One operation over the whole period, next to a block's cost in the synchronous design."""

    operation: str
    old_cost_per_block_usd: Usd | None

    @classmethod
    def of_operation(cls, operation: str, spent: Spent) -> OperationBody:
        old = _OLD_USD.get(operation)
        return cls(operation=operation, old_cost_per_block_usd=old, **_values(spent))


class PriceTableBody(BaseModel):
    """The source and age of the prices."""

    source: str
    dated: date | None = Field(description="Day of the latest price change that has taken effect.")


class PendingBackfillBody(BaseModel):
    """Active blocks that lack a result of a provider."""

    due: int = Field(description="Backfilled now.")
    later: int = Field(description="Retried later.")
    asked: int = Field(description="Backfilled on request only: `luma-memory backfill`.")

    @classmethod
    def of(cls, pending: PendingBackfillCounts) -> PendingBackfillBody:
        return cls(due=pending.due, later=pending.later, asked=pending.asked)


class UsageBody(BaseModel):
    """Usage of model providers. Local work costs nothing and is not counted."""

    since: date
    until: date
    total: SpentBody
    operations: list[OperationBody]
    lines: list[UsageLineBody] = Field(description="Newest day first.")
    unpriced_models: list[str] = Field(
        description="Models that used tokens but have no known price."
    )
    prices: PriceTableBody
    owed: PendingBackfillBody

    @classmethod
    def of(
        cls, report: UsageReport, pending: PendingBackfillCounts, *, since: date, until: date
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
            owed=PendingBackfillBody.of(pending),
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
