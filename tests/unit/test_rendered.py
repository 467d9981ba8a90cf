"""The answer of /context as it is written from parts, and what is kept of it."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from luma_memory.api.rendered import RenderedContexts
from luma_memory.domain.context import (
    Citation,
    Context,
    ContextBlock,
    ContextRequest,
    ContextResult,
)
from luma_memory.domain.scope import Scope
from luma_memory.protocol import context as protocol

REQUEST = ContextRequest(Scope("default", "ada"), "Where?", 5, 800, True, 1.0)


def _context(text: str) -> Context:
    block = ContextBlock(
        id=UUID(int=1),
        content=text,
        is_cut=False,
        score=0.5,
        relevance=0.25,
        occurred_at=datetime(2026, 1, 2, tzinfo=UTC),
        speaker="Ada",
        session_id=None,
        source=None,
        title=None,
    )
    return Context([block], text, [Citation(1, block.id)], 7, None, True)


def test_the_rendered_bytes_equal_the_serialized_response_model() -> None:
    result = ContextResult(_context('Ün"ïcode\n[1]'), 1.23456, ["database"], {"total": 0.12345})
    body = RenderedContexts().render(result, REQUEST, counted_by="estimate")
    read = protocol.ContextResponse.model_validate_json(body)
    assert read.model_dump_json().encode() == body
    assert read.blocks[0].content == read.text == 'Ün"ïcode\n[1]'
    assert (read.cached, read.age_seconds, read.degraded) == (True, 1.235, ["database"])
    assert read.timings == {"total": 0.123}
    assert read.tokens == protocol.TokensBody(count=7, budget=800, counted_by="estimate")


def test_age_and_budget_are_rendered_for_each_request() -> None:
    rendered, result = RenderedContexts(), ContextResult(_context("The ferry."), None, [])
    first = rendered.render(result, REQUEST, counted_by="estimate")
    again = rendered.render(
        replace(result, age_seconds=2.0), replace(REQUEST, token_budget=90), counted_by="estimate"
    )
    assert b'"cached":false' in first
    assert b'"cached":true' in again
    assert b'"budget":90' in again


def test_a_context_that_is_gone_is_forgotten_and_its_place_holds_another() -> None:
    rendered = RenderedContexts()
    for number in range(1_000):  # ids of objects come again at once
        result = ContextResult(_context(f"number {number}"), None, [])
        body = rendered.render(result, REQUEST, counted_by="estimate")
        assert protocol.ContextResponse.model_validate_json(body).text == f"number {number}"
    del result
    gc.collect()
    assert rendered._kept == {}
