"""What a call costs, by the price table of the package genai-prices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Final

from genai_prices import Usage, calc_price
from genai_prices import __version__ as table_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import StartDateConstraint

from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.usage import PriceTable

# Below the length at which any vendor's prices change.
PLAIN_TOKENS_MAX: Final = 30_000
# Some vendors' prices change with the hour.
RATES_SECONDS: Final = 60.0
_SAMPLE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Rates:
    """Prices per token of one model, in USD."""

    call: Decimal
    input_token: Decimal
    output_token: Decimal

    def cost(self, call: ModelCall) -> Decimal:
        return (
            self.call
            + self.input_token * call.input_tokens
            + self.output_token * call.output_tokens
        )


class TablePrices:
    """Implements `ports.accounts.Prices`.

    base_url: of the OpenAI-compatible service, None for OpenAI. A service whose address the table
    does not list (a gateway, say) is assumed to charge OpenAI's prices for OpenAI's models; the
    price of any other model is unknown.
    """

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url
        self._rates: dict[str, tuple[_Rates | None, float]] = {}  # by model, with an expiry

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        """None if no price is known.

        A query of the table takes half a millisecond, so rates per token are cached; only long
        calls, for which some vendors have other prices, are always looked up.
        """
        if call.input_tokens > PLAIN_TOKENS_MAX:
            return self._of_table(call)
        rates, until = self._rates.get(call.model, (None, 0.0))
        if (now := time.monotonic()) > until:
            rates = self._rates_of(call.model)
            self._rates[call.model] = (rates, now + RATES_SECONDS)
        return None if rates is None else rates.cost(call)

    def _rates_of(self, model: str) -> _Rates | None:
        costs = [
            self._of_table(ModelCall(model, *tokens))
            for tokens in ((0, 0), (_SAMPLE, 0), (0, _SAMPLE))
        ]
        a_call, input_cost, output_cost = costs
        if a_call is None or input_cost is None or output_cost is None:
            return None
        return _Rates(a_call, (input_cost - a_call) / _SAMPLE, (output_cost - a_call) / _SAMPLE)

    def _of_table(self, call: ModelCall) -> Decimal | None:
        vendor, _, model = call.model.partition("/")
        usage = Usage(input_tokens=call.input_tokens, output_tokens=call.output_tokens)
        # A vector's shortened dimension is not part of the model's name.
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
    """The installed table, dated by the latest price change in it that has taken effect."""
    today = datetime.now(UTC).date()
    return PriceTable(
        f"genai-prices {table_version}",
        max((day for day in _price_changes() if day <= today), default=None),
    )


def _price_changes() -> Iterator[date]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            for price in model.prices if isinstance(model.prices, list) else ():
                if isinstance(price.constraint, StartDateConstraint):
                    yield price.constraint.start_date
