"""One trace from the API to the provider, across processes."""

from __future__ import annotations

import time

import httpx2
import pytest
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.otlp_collector import OtlpCollector, SpanSeen
from tests.support.machine_load import within
from tests.support.servers import Servers
from tests.support.service import BASE_PATH, all_blocks
from tests.support.stacks import running_service

TEXT = "Ada keeps bees behind the observatory."
QUESTION = "Where are the bees kept?"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
KEY = "sk-not-for-any-trace-0815"


async def test_a_block_and_a_question_are_traced_from_the_api_to_the_provider(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with (
        OtlpCollector() as collector,
        OtlpCollector(hangs=True) as langfuse,
        FakeOpenAI(dimension=64) as provider,
    ):
        async with (
            running_service(
                servers,
                openai_base_url=provider.base_url,
                openai_api_key=KEY,
                embedding_dimension=64,
                otel_exporter_otlp_endpoint=collector.url,
                langfuse_enabled=True,
                langfuse_public_key="pk-lf-1",
                langfuse_secret_key=KEY,
                langfuse_base_url=langfuse.url,
            ) as stack,
            httpx2.AsyncClient(
                base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
            ) as client,
        ):
            parent = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
            block = {"user_id": "ada@example.com", "content": TEXT}
            await client.post("/blocks", json=block, headers=parent)
            collector.wait_for(lambda seen: _has(seen, "enrich_and_embed"))
            (stored,) = await all_blocks(client, "ada@example.com")
            assert stored["status"] == "active"
            context_body = {"user_id": "ada@example.com", "query": QUESTION, "synthesize": True}
            await client.post("/context", json=context_body)
            await client.get("/health")
            seen = collector.wait_for(lambda seen: _has(seen, "POST /context"))
            langfuse.wait_for_delivery()
            # Langfuse has not responded once; nothing waits for it, not even the shutdown.
            stopping = time.monotonic()
            await stack.stop()
            assert time.monotonic() - stopping < within(15)
            assert [child.exit_code for child in stack.children.values()] == [0, 0]
    block_trace = [span for span in seen if span.trace_id == TRACE_ID]
    assert _tree(block_trace, "b7ad6b7169203331") == {
        "POST /blocks": {
            "ingest": {
                "enrich_and_embed": {
                    "read": {},
                    "enrich": {"chat gpt-4o-mini": {}},
                    "embed": {"embed together": {"embeddings text-embedding-3-small": {}}},
                    "write back": {},
                }
            }
        }
    }
    (question,) = [span for span in seen if span.name == "POST /context"]
    question_trace = [span for span in seen if span.trace_id == question.trace_id]
    assert _tree(question_trace, "") == {
        "POST /context": {
            "context": {
                "recall": {
                    "understand": {},
                    "embed": {"embeddings text-embedding-3-small": {}},
                    "scan": {},
                    # The first question of a model: what its cosines mean is measured.
                    "calibrate": {
                        "embed together": {"embeddings text-embedding-3-small": {}},
                    },
                    "relations": {},
                    "fuse": {},
                    "read": {},
                },
                "synthesize": {"chat gpt-4o-mini": {}},
            }
        }
    }
    (job,) = [span for span in seen if span.name == "enrich_and_embed"]
    assert (job.service, question.service) == ("luma-memory-worker", "luma-memory-api")
    assert job.attributes["luma.job.outcome"] == "done"
    (chat,) = [span for span in block_trace if span.name.startswith("chat")]
    assert chat.attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert chat.attributes["gen_ai.usage.input_tokens"] == 120
    claims = [span for span in seen if span.name == "claim" and span.links]
    (ingest,) = [span for span in seen if span.name == "ingest"]
    assert [claim.links for claim in claims] == [[ingest.span_id]]
    assert not any(span.failed or "health" in span.name for span in seen)
    for hidden in (TEXT, "bees", QUESTION, "ada@example.com", KEY):
        assert all(hidden.encode() not in sent.body for sent in collector.deliveries)


def _has(seen: object, name: str) -> bool:
    assert isinstance(seen, list)
    return any(span.name == name for span in seen)


def _tree(spans: list[SpanSeen], parent_id: str) -> dict[str, object]:
    """Names of the spans below one, and what is below them."""
    return {span.name: _tree(spans, span.span_id) for span in spans if span.parent_id == parent_id}
