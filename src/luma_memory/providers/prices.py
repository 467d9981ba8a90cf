"""What a call costs, by the table of genai-prices, which its makers keep up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Final

from genai_prices import Usage, calc_price
from genai_prices import __version__ as table_version
from genai_prices.data_snapshot import get_snapshot

from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.usage import PriceTable

# Its makers note where they looked, and when: "verified on 2026-01-31".
_CHECKED: Final = re.compile(r"(?:verified|checked|as of)\b[^.;]{0,40}?(\d{4}-\d{2}-\d{2})")


class TablePrices:
    """Implements `domain.ports.Prices`.

    base_url: of the OpenAI-compatible service, None for OpenAI. A service that the table does not
    know by its address (a gateway, say) is taken to charge OpenAI's prices for OpenAI's models, and
    nothing that is known for others.
    """

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        vendor, _, model = call.model.partition("/")
        usage = Usage(input_tokens=call.input_tokens, output_tokens=call.output_tokens)
        # A vector's shortened dimension is no part of its model's name.
        name = model.partition("@")[0]
        if vendor == "openai" and self._base_url is not None:
            try:
                return calc_price(usage, name, provider_api_url=self._base_url).total_price
            except LookupError:
                pass
        try:
            return calc_price(usage, name, provider_id=vendor).total_price
        except LookupError:
            return None

    def knows(self, model: str) -> bool:
        """Whether there is a price for a model, as calls name it."""
        return self.cost_usd(ModelCall(model, 1, 0)) is not None

    @property
    def table(self) -> PriceTable:
        return price_table()


@cache
def price_table() -> PriceTable:
    """The table that is installed."""
    today = datetime.now(UTC).date()
    days = [day for day in _days_of_checks() if day <= today]
    return PriceTable(f"genai-prices {table_version}", max(days, default=None))


def _days_of_checks() -> Iterator[date]:
    for provider in get_snapshot().providers:
        for noted in (
            provider.price_comments,
            *(model.price_comments for model in provider.models),
        ):
            for match in _CHECKED.finditer(noted or ""):
                try:
                    yield date.fromisoformat(match[1])
                except ValueError:
                    continue
