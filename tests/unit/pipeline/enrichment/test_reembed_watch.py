"""The progress of a change of the embedding model is read seldom, however often it is shown."""

from __future__ import annotations

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
    reads: list[int] = field(default_factory=list)
    fails: bool = False

    async def requested(self) -> str | None:
        return self.target

    async def progress(self, _model_id: str) -> ReembedProgress:
        self.reads.append(len(self.reads))
        self.clock.move(seconds=self.seconds)
        if self.fails:
            raise StoreUnavailable("now")
        return ReembedProgress(requested=True, total=100, done=10 * len(self.reads))


def _watch(models: CountedModels) -> ReembedWatch:
    return ReembedWatch(cast("VectorModels", models), model_id=NEW, clock=models.clock)


async def _after_the_read(watch: ReembedWatch) -> int | None:
    """What is known once the read that this may start is over."""
    await watch.progress()
    if watch._task is not None:
        await watch._task
    found = await watch.progress()
    return None if found is None else found.done


async def test_all_passages_are_counted_a_twentieth_of_the_time() -> None:
    models = CountedModels(MovedClock(), seconds=2.0)
    watch = _watch(models)
    assert await _after_the_read(watch) == 10
    models.clock.move(seconds=39)
    assert await _after_the_read(watch) == 10
    models.clock.move(seconds=1)
    assert await _after_the_read(watch) == 20
    assert len(models.reads) == 2


async def test_nothing_is_counted_while_no_change_to_this_model_is_requested() -> None:
    models = CountedModels(MovedClock(), target=None)
    watch = _watch(models)
    assert await watch.progress() is None
    models.target = "another"
    assert await watch.progress() is None
    assert models.reads == []


async def test_a_failed_count_is_unknown_and_made_again() -> None:
    models = CountedModels(MovedClock(), fails=True)
    watch = _watch(models)
    assert await watch.progress() is None
    models.fails = False
    models.clock.move(seconds=6)
    assert await _after_the_read(watch) == 20
    await watch.close()
