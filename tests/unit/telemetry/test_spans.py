"""Spans without a subscriber."""

from __future__ import annotations

import inspect

from luma_memory.telemetry import spans


async def test_no_span_is_created_without_a_recorder() -> None:
    assert not spans.is_on()
    assert spans.traceparent() is None
    assert spans.span("a", values={"b": 1}) is spans.span("c") is spans.NOTHING
    assert spans.current() is spans.NOTHING
    with spans.span("a") as span:
        span.set({"b": 1})
        span.rename("c")
        span.failed(ValueError("d"))
        span.content(lambda: {"never": 1 / 0})


async def test_a_traced_function_is_called_as_it_stands() -> None:
    frames: list[int] = []

    @spans.traced("work")
    async def work(value: int) -> int:
        """What it does."""
        frames.append(len(inspect.stack(0)))
        return value

    async def plain(value: int) -> int:
        frames.append(len(inspect.stack(0)))
        return value

    assert (await work(3), await plain(3)) == (3, 3)
    assert frames[0] == frames[1]
    assert work.__doc__ == "What it does."
