"""Natural batching: who flies with whom, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.domain.errors import Invalid, InvariantError, StoreUnavailable


class Flights:
    """Doubles numbers; records its batches; waits at the gate when that is closed."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.at_once = 0
        self.at_once_max = 0
        self.gate = asyncio.Event()
        self.departed = asyncio.Event()
        self.fault: Exception | None = None
        if open_gate:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        self.departed.set()
        try:
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            return [2 * item for item in items]
        finally:
            self.at_once -= 1


async def _behind_a_flight(
    coalescer: Coalescer[int, int], flights: Flights, items: Sequence[int]
) -> tuple[asyncio.Task[int], list[asyncio.Task[int]]]:
    """One item in the air, the others waiting in order."""
    first = asyncio.create_task(coalescer.submit(0))
    await flights.departed.wait()
    others = [asyncio.create_task(coalescer.submit(item)) for item in items]
    await asyncio.sleep(0)  # each begins, in order
    assert coalescer.waiting == len(items)
    return first, others


async def test_a_lone_item_flies_at_once_and_alone() -> None:
    flights = Flights()
    assert await Coalescer(flights, items_max=10).submit(21) == 42
    assert flights.batches == [[21]]


async def test_items_that_arrive_during_a_flight_share_the_next_in_order() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=10)
    first, others = await _behind_a_flight(coalescer, flights, [1, 2, 3])
    flights.gate.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6]
    assert flights.batches == [[0], [1, 2, 3]]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    items_max=st.integers(1, 6),
    size_max=st.integers(1, 15),
    flights_max=st.integers(1, 3),
)
def test_every_caller_gets_its_own_result_within_the_bounds(
    sizes: list[int], items_max: int, size_max: int, flights_max: int
) -> None:
    async def scenario() -> None:
        flights = Flights()
        coalescer = Coalescer(
            flights,
            items_max=items_max,
            size_max=size_max,
            size_of=lambda item: sizes[item],
            flights_max=flights_max,
        )
        results = await asyncio.gather(*(coalescer.submit(item) for item in range(len(sizes))))
        assert results == [2 * item for item in range(len(sizes))]
        # In order, each once, in flights no fuller than allowed and no emptier than needed.
        assert [item for batch in flights.batches for item in batch] == list(range(len(sizes)))
        for batch in flights.batches:
            assert len(batch) <= items_max
            assert len(batch) == 1 or sum(sizes[item] for item in batch) <= size_max
        assert flights.at_once_max <= flights_max

    asyncio.run(scenario())


async def test_items_with_room_left_do_not_fly_apart() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=3, size_max=10, size_of=lambda item: item)
    first, others = await _behind_a_flight(coalescer, flights, [5, 5, 1, 1, 1, 1, 99, 1])
    flights.gate.set()
    await asyncio.gather(first, *others)
    assert flights.batches[1:] == [[5, 5], [1, 1, 1], [1], [99], [1]]


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=10))
def test_a_result_that_is_an_exception_goes_to_its_own_caller(outcomes: list[bool]) -> None:
    async def flight(items: Sequence[int]) -> Sequence[int | Exception]:
        return [item if outcomes[item] else Invalid(f"item {item}") for item in items]

    async def scenario() -> None:
        coalescer = Coalescer(flight, items_max=100)
        answers = await asyncio.gather(
            *(coalescer.submit(item) for item in range(len(outcomes))), return_exceptions=True
        )
        for item, answer in enumerate(answers):
            if outcomes[item]:
                assert answer == item
            else:
                assert isinstance(answer, Invalid)
                assert str(answer) == f"item {item}"

    asyncio.run(scenario())


@given(bad=st.sets(st.integers(0, 9)))
def test_items_that_make_a_flight_raise_fail_alone(bad: set[int]) -> None:
    async def flight(items: Sequence[int]) -> Sequence[int]:
        for item in items:
            if item in bad:
                raise Invalid(f"item {item}")
        return items

    async def scenario() -> None:
        coalescer = Coalescer(flight, items_max=100)
        answers = await asyncio.gather(
            *(coalescer.submit(item) for item in range(10)), return_exceptions=True
        )
        told = {item: str(answer) for item, answer in enumerate(answers) if answer != item}
        assert told == {item: f"item {item}" for item in bad}

    asyncio.run(scenario())


async def test_an_outage_is_told_to_all_without_another_try() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=10)
    first, others = await _behind_a_flight(coalescer, flights, [1, 2, 3])
    flights.fault = StoreUnavailable("away")
    flights.gate.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert flights.batches == [[0], [1, 2, 3]]


async def test_a_flight_that_returns_too_few_results_leaves_nobody_waiting() -> None:
    async def flight(items: Sequence[int]) -> Sequence[int]:
        return list(items)[:1]

    coalescer = Coalescer(flight, items_max=10)
    answers = await asyncio.wait_for(
        asyncio.gather(*(coalescer.submit(item) for item in range(3))), timeout=30
    )
    assert answers == [0, 1, 2]  # each alone gets its one result

    async def nothing(_items: Sequence[int]) -> Sequence[int]:
        return []

    with pytest.raises(InvariantError):
        await asyncio.wait_for(Coalescer(nothing, items_max=10).submit(1), timeout=30)


async def test_a_caller_cancelled_while_waiting_does_not_fly_wherever_it_stands() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=10)
    first, others = await _behind_a_flight(coalescer, flights, [1, 2, 3, 4])
    for gone in (others[0], others[2], others[3]):
        gone.cancel()
    await asyncio.wait([others[0], others[2], others[3]])
    flights.gate.set()
    assert await first == 0
    assert await others[1] == 4
    await coalescer.close()
    assert flights.batches == [[0], [2]]


async def test_nobody_flies_when_all_that_waited_are_gone() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=10)
    first, (other,) = await _behind_a_flight(coalescer, flights, [1])
    other.cancel()
    await asyncio.wait([other])
    flights.gate.set()
    await first
    await coalescer.close()
    assert flights.batches == [[0]]
    assert await coalescer.submit(5) == 10


async def test_a_caller_cancelled_in_flight_loses_only_its_own_answer() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=10)
    first, others = await _behind_a_flight(coalescer, flights, [1, 2])
    first.cancel()
    await asyncio.wait([first])
    flights.gate.set()
    assert await asyncio.gather(*others) == [2, 4]
    assert flights.batches == [[0], [1, 2]]


async def test_close_waits_for_flying_and_waiting_items() -> None:
    flights = Flights(open_gate=False)
    coalescer = Coalescer(flights, items_max=1)
    first, others = await _behind_a_flight(coalescer, flights, [1, 2])
    closing = asyncio.create_task(coalescer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    flights.gate.set()
    await closing
    assert all(task.done() for task in (first, *others)) or await asyncio.gather(first, *others)
    assert flights.batches == [[0], [1], [2]]


async def test_close_of_an_unused_one_returns() -> None:
    await asyncio.wait_for(Coalescer(Flights(), items_max=1).close(), timeout=30)


async def test_many_items_of_one_caller_get_their_own_results_and_errors() -> None:
    async def flight(items: Sequence[int]) -> Sequence[int | Exception]:
        return [Invalid("odd") if item % 2 else item for item in items]

    answers = await Coalescer(flight, items_max=2).submit_all([0, 1, 2, 3, 4])
    assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [
        0,
        Invalid,
        2,
        Invalid,
        4,
    ]
    assert await Coalescer(flight, items_max=2).submit_all([]) == []
