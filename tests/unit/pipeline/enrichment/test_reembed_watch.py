"""The progress of a change of the embedding model is read seldom, however often it is shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.pipeline.enrichment.reembed_watch import ReembedWatch
from luma_memory.ports.vector_models import ReembedProgress, VectorModels
from luma_memory.testing.moved_clock import MovedClock

NEW = "new"


@dataclass
class CountedModels:
    """The two methods that the watch calls; a read takes `seconds`."""

    clock: MovedClock
    seconds: float = 0.1
    target: str | None = NEW
    reads: list[str] = field(default_factory=list)
    fails: bool = False
    released: asyncio.Event | None = None  # a read waits for it

    async def requested(self) -> str | None:
        return self.target

    async def progress(self, model_id: str) -> ReembedProgress:
        self.reads.append(model_id)
        if self.released is not None:
            await self.released.wait()
        self.clock.move(seconds=self.seconds)
        if self.fails:
            raise StoreUnavailable("now")
        return ReembedProgress(requested=True, total=100, done=10 * len(self.reads))


def _watch(models: CountedModels) -> ReembedWatch:
    return ReembedWatch(cast("VectorModels", models), clock=models.clock)


async def _done(watch: ReembedWatch) -> int | None:
    state = await watch.state()
    assert state is not None
    return None if state.progress is None else state.progress.done


async def test_all_passages_are_counted_a_twentieth_of_the_time() -> None:
    models = CountedModels(MovedClock(), seconds=2.0)
    watch = _watch(models)
    assert await _done(watch) == 10
    models.clock.move(seconds=39)
    assert await _done(watch) == 10
    models.clock.move(seconds=1)
    assert await _done(watch) == 20
    assert len(models.reads) == 2


async def test_a_first_request_after_a_long_time_sees_a_new_value() -> None:
    models = CountedModels(MovedClock())
    watch = _watch(models)
    assert await _done(watch) == 10
    models.clock.move(seconds=3_600)
    assert await _done(watch) == 20


async def test_a_slow_count_is_waited_for_a_moment_only() -> None:
    models = CountedModels(MovedClock(), released=asyncio.Event())
    watch = _watch(models)
    assert await _done(watch) is None  # not counted yet
    assert models.released is not None
    models.released.set()
    assert await _done(watch) == 10
    models.clock.move(seconds=6)
    models.released.clear()
    assert await _done(watch) == 10
    await watch.close()


async def test_nothing_is_counted_while_no_change_is_requested() -> None:
    models = CountedModels(MovedClock(), target=None)
    watch = _watch(models)
    assert await watch.state() is None
    assert models.reads == []


async def test_a_change_to_yet_another_model_is_counted_anew() -> None:
    models = CountedModels(MovedClock())
    watch = _watch(models)
    assert await _done(watch) == 10
    models.target = "another"
    state = await watch.state()
    assert state is not None
    assert (state.model_id, models.reads) == ("another", [NEW, "another"])
    models.target = None
    assert await watch.state() is None


async def test_a_failed_count_is_unknown_and_made_again() -> None:
    models = CountedModels(MovedClock(), fails=True)
    watch = _watch(models)
    assert await _done(watch) is None
    models.fails = False
    models.clock.move(seconds=6)
    assert await _done(watch) == 20
    await watch.close()
