"""Models of other vendors, through pydantic-ai and its vendor's library, over real HTTP."""

from __future__ import annotations

import traceback
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
from tests.fakes import openai_server as fake
from tests.fakes.openai_server import FakeOpenAI, Reply
from tests.support.providers import model_target

from luma_memory.domain.enrichment import EnrichmentRequest, ModelCall
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    SetupError,
)
from luma_memory.providers.completion.openai_compatible import ModelEnricher

KEY = "vendor-key-0123456789abcdefSECRET"
REQUEST = EnrichmentRequest("Ada ran the xyzzy-marathon.", datetime(2024, 3, 4, tzinfo=UTC))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        monkeypatch.setenv("OLLAMA_BASE_URL", running.base_url)
        monkeypatch.setenv("OLLAMA_API_KEY", KEY)
        yield running
        running.wait_until_disconnected()


@pytest.fixture
async def enricher(server: FakeOpenAI) -> AsyncIterator[ModelEnricher]:
    adapter = ModelEnricher([model_target("ollama:qwen3", api_key=None, timeout_seconds=1.0)])
    yield adapter
    await adapter.close()


async def test_one_call_makes_an_enrichment(server: FakeOpenAI, enricher: ModelEnricher) -> None:
    enrichment = await enricher.enrich(REQUEST)
    assert enrichment.summary == REQUEST.content
    assert enrichment.model == "ollama/qwen3+enrich_v1"
    assert enrichment.calls == (
        ModelCall("ollama/qwen3", fake.PROMPT_TOKENS, fake.COMPLETION_TOKENS),
    )
    (call,) = server.calls
    assert call.body["model"] == "qwen3"
    assert call.headers["authorization"] == f"Bearer {KEY}"


FAULTS: dict[str, tuple[Reply, type[LumaMemoryError], str]] = {
    "401": (fake.error(401, code="invalid_api_key"), ProviderRejected, "provider_bad_key"),
    "no money": (fake.out_of_money(), ProviderRejected, "provider_no_money"),
    "429": (fake.rate_limited(seconds=7), RateLimited, "rate_limited"),
    "502": (fake.html(502), ProviderUnavailable, "provider_unavailable"),
    "reset": (fake.reset(), ProviderUnavailable, "provider_unavailable"),
    "silence": (fake.hang(), ProviderTimeout, "provider_timeout"),
    "drip": (fake.drip(0.02), ProviderTimeout, "provider_timeout"),
    "no JSON": (fake.html(200), ProviderResponseInvalid, "provider_response_invalid"),
    "prose": (
        fake.completion("I would rather not."),
        ProviderResponseInvalid,
        "provider_response_invalid",
    ),
    "refusal": (fake.completion(None, refusal="no xyzzy"), ProviderRejected, "provider_refused"),
    "redirect": (
        fake.redirect("http://127.0.0.1:9/elsewhere"),
        ProviderResponseInvalid,
        "provider_redirected",
    ),
    "200 MB": (
        fake.huge(200 * 2**20),
        ProviderResponseInvalid,
        "provider_answer_too_large",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults(fault: str, server: FakeOpenAI, enricher: ModelEnricher) -> None:
    reply, kind, code = FAULTS[fault]
    server.script(reply)
    tracemalloc.start()
    try:
        with pytest.raises(LumaMemoryError) as caught:
            await enricher.enrich(REQUEST)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    error = caught.value
    assert (type(error), error.code) == (kind, code)
    assert len(server.calls) == 1
    assert peak_bytes < 100 * 2**20
    if isinstance(error, RateLimited):
        assert error.retry_after_seconds == 7.0
    printed = "".join(traceback.format_exception(error))
    assert KEY not in printed
    assert "xyzzy" not in printed


def test_an_unknown_vendor() -> None:
    with pytest.raises(SetupError, match="nosuchvendor:model-1"):
        ModelEnricher([model_target("nosuchvendor:model-1", api_key=KEY)])
