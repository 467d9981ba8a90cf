"""Natural batching: which items share a batch, and which callers get which result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.domain.errors import Invalid, StoreUnavailable, is_outage


class Recorder:
    """Doubles numbers, records its batches, and can be blocked."""

    def __init__(self, *, is_released: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.at_once = 0
        self.at_once_max = 0
        self.released = asyncio.Event()
        self.started = asyncio.Event()
        self.fault: Exception | None = None
        if is_released:
            self.released.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        self.started.set()
        try:
            await self.released.wait()
            if self.fault is not None:
                raise self.fault
            return [2 * item for item in items]
        finally:
            self.at_once -= 1


async def _queued_behind_one(
    coalescer: Coalescer[int, int], recorder: Recorder, items: Sequence[int]
) -> tuple[asyncio.Task[int], list[asyncio.Task[int]]]:
    """One item in flight, the others waiting in order."""
    first = asyncio.create_task(coalescer.submit(0))
    await recorder.started.wait()
    others = [asyncio.create_task(coalescer.submit(item)) for item in items]
    await asyncio.sleep(0)  # each begins, in order
    assert coalescer.waiting == len(items)
    return first, others


async def test_a_lone_item_is_processed_at_once_and_alone() -> None:
    recorder = Recorder()
    assert await Coalescer(recorder, items_max=10).submit(21) == 42
    assert recorder.batches == [[21]]


async def test_items_that_arrive_during_a_batch_share_the_next_in_order() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=10)
    first, others = await _queued_behind_one(coalescer, recorder, [1, 2, 3])
    recorder.released.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6]
    assert recorder.batches == [[0], [1, 2, 3]]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    items_max=st.integers(1, 6),
    size_max=st.integers(1, 15),
    batches_max=st.integers(1, 3),
)
def test_every_caller_gets_its_own_result_within_the_bounds(
    sizes: list[int], items_max: int, size_max: int, batches_max: int
) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        coalescer = Coalescer(
            recorder,
            items_max=items_max,
            size_max=size_max,
            size_of=lambda item: sizes[item],
            batches_max=batches_max,
        )
        results = await asyncio.gather(*(coalescer.submit(item) for item in range(len(sizes))))
        assert results == [2 * item for item in range(len(sizes))]
        # In order, each once, in batches no fuller than allowed and no emptier than needed.
        assert [item for batch in recorder.batches for item in batch] == list(range(len(sizes)))
        for batch in recorder.batches:
            assert len(batch) <= items_max
            assert len(batch) == 1 or sum(sizes[item] for item in batch) <= size_max
        assert recorder.at_once_max <= batches_max

    asyncio.run(scenario())


async def test_items_that_fit_share_a_batch() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=3, size_max=10, size_of=lambda item: item)
    first, others = await _queued_behind_one(coalescer, recorder, [5, 5, 1, 1, 1, 1, 99, 1])
    recorder.released.set()
    await asyncio.gather(first, *others)
    assert recorder.batches[1:] == [[5, 5], [1, 1, 1], [1], [99], [1]]


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=10))
def test_a_result_that_is_an_exception_goes_to_its_own_caller(outcomes: list[bool]) -> None:
    async def process(items: Sequence[int]) -> Sequence[int | Exception]:
        return [item if outcomes[item] else Invalid(f"item {item}") for item in items]

    async def scenario() -> None:
        coalescer = Coalescer(process, items_max=100)
        results = await asyncio.gather(
            *(coalescer.submit(item) for item in range(len(outcomes))), return_exceptions=True
        )
        for item, result in enumerate(results):
            if outcomes[item]:
                assert result == item
            else:
                assert isinstance(result, Invalid)
                assert str(result) == f"item {item}"

    asyncio.run(scenario())


@given(bad=st.sets(st.integers(0, 9)))
def test_items_that_make_a_batch_raise_fail_alone(bad: set[int]) -> None:
    async def process(items: Sequence[int]) -> Sequence[int]:
        for item in items:
            if item in bad:
                raise Invalid(f"item {item}")
        return items

    async def scenario() -> None:
        coalescer = Coalescer(process, items_max=100)
        results = await asyncio.gather(
            *(coalescer.submit(item) for item in range(10)), return_exceptions=True
        )
        errors = {item: str(result) for item, result in enumerate(results) if result != item}
        assert errors == {item: f"item {item}" for item in bad}

    asyncio.run(scenario())


async def test_a_shared_error_is_raised_to_all_without_another_try() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=10, is_shared=is_outage)
    first, others = await _queued_behind_one(coalescer, recorder, [1, 2, 3])
    recorder.fault = StoreUnavailable("away")
    recorder.released.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_a_batch_that_returns_too_few_results_leaves_no_caller_waiting() -> None:
    async def process(items: Sequence[int]) -> Sequence[int]:
        return list(items)[:1]

    coalescer = Coalescer(process, items_max=10)
    results = await asyncio.wait_for(
        asyncio.gather(*(coalescer.submit(item) for item in range(3))), timeout=30
    )
    assert results == [0, 1, 2]  # each alone gets its one result

    async def nothing(_items: Sequence[int]) -> Sequence[int]:
        return []

    with pytest.raises(RuntimeError):
        await asyncio.wait_for(Coalescer(nothing, items_max=10).submit(1), timeout=30)


async def test_a_caller_cancelled_while_waiting_is_left_out_of_the_batch() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=10)
    first, others = await _queued_behind_one(coalescer, recorder, [1, 2, 3, 4])
    for gone in (others[0], others[2], others[3]):
        gone.cancel()
    await asyncio.wait([others[0], others[2], others[3]])
    recorder.released.set()
    assert await first == 0
    assert await others[1] == 4
    await coalescer.close()
    assert recorder.batches == [[0], [2]]


async def test_no_batch_starts_when_every_waiting_caller_was_cancelled() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=10)
    first, (other,) = await _queued_behind_one(coalescer, recorder, [1])
    other.cancel()
    await asyncio.wait([other])
    recorder.released.set()
    await first
    await coalescer.close()
    assert recorder.batches == [[0]]
    assert await coalescer.submit(5) == 10


async def test_a_caller_cancelled_in_flight_loses_only_its_own_result() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=10)
    first, others = await _queued_behind_one(coalescer, recorder, [1, 2])
    first.cancel()
    await asyncio.wait([first])
    recorder.released.set()
    assert await asyncio.gather(*others) == [2, 4]
    assert recorder.batches == [[0], [1, 2]]


async def test_close_waits_for_running_and_waiting_items() -> None:
    recorder = Recorder(is_released=False)
    coalescer = Coalescer(recorder, items_max=1)
    first, others = await _queued_behind_one(coalescer, recorder, [1, 2])
    closing = asyncio.create_task(coalescer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    recorder.released.set()
    await closing
    assert all(task.done() for task in (first, *others)) or await asyncio.gather(first, *others)
    assert recorder.batches == [[0], [1], [2]]


async def test_close_of_an_unused_one_returns() -> None:
    await asyncio.wait_for(Coalescer(Recorder(), items_max=1).close(), timeout=30)


async def test_many_items_of_one_caller_get_their_own_results_and_errors() -> None:
    async def process(items: Sequence[int]) -> Sequence[int | Exception]:
        return [Invalid("odd") if item % 2 else item for item in items]

    results = await Coalescer(process, items_max=2).submit_all([0, 1, 2, 3, 4])
    assert [result if isinstance(result, int) else type(result) for result in results] == [
        0,
        Invalid,
        2,
        Invalid,
        4,
    ]
    assert await Coalescer(process, items_max=2).submit_all([]) == []
