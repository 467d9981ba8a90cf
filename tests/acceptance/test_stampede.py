"""Many contexts at once on one cold key, over two API processes and a slow provider."""

from __future__ import annotations

import asyncio

import pytest
from tests.fakes.openai_server import FakeOpenAI, late
from tests.support.keyed_service import beside
from tests.support.load import client_of
from tests.support.redis_server import running_redis, skip_without_redis
from tests.support.servers import Servers
from tests.support.stacks import running_service

PROCESSES = 2


@pytest.mark.parametrize("requests", [60, pytest.param(300, marks=pytest.mark.slow)])
async def test_a_cold_question_costs_few_embedding_calls(requests: int, servers: Servers) -> None:
    """One for the question, and one of each process that calibrates the model.

    On a slow machine Redis may miss its time limit; each process then computes alone, once. The
    long form, for a machine with nothing else to do, allows no second one.
    """
    skip_without_redis()
    with FakeOpenAI(dimension=64) as provider:
        async with (
            running_redis() as redis,
            running_service(
                servers,
                workers=1,
                redis_url=redis.url,
                openai_base_url=provider.base_url,
                embedding_dimension=64,
            ) as stack,
            beside(stack) as other,
            client_of(stack) as one,
            client_of(other) as two,
        ):
            block = {"user_id": "ada", "content": "The green kayak lies in the boathouse."}
            assert (await one.post("/blocks?wait=true", json=block)).status_code == 201
            provider.always(late(1.0))
            before = len(provider.calls)
            body = {"user_id": "ada", "query": "Where is the kayak?", "timeout_ms": 10_000}
            responses = await asyncio.gather(
                *((one, two)[n % 2].post("/context", json=body) for n in range(requests))
            )
            embedded = [
                call.body["input"]
                for call in provider.calls[before:]
                if call.path.endswith("/embeddings")
            ]
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["text"] for response in responses}) == 1
    questions = [texts for texts in embedded if texts == [body["query"]]]
    assert 1 <= len(questions) <= (PROCESSES if requests < 100 else 1)
    assert len(embedded) - len(questions) <= PROCESSES
