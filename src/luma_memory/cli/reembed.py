"""`reembed`: make all vectors with the configured model, while the service runs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_reembedding
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import progress, say_note
from luma_memory.cli.running import run_async
from luma_memory.ports.vector_models import ReembedProgress
from luma_memory.settings import Settings, load_settings

LOOK_SECONDS = 1.0
# A look reads all passages: it may cost a twentieth of the time, however many there are.
LOOK_SHARE = 20


@examples("luma-memory reembed", "luma-memory reembed --no-wait", "luma-memory reembed --status")
def reembed(
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it and end.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how far it is.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Make all vectors with the model of the settings, in the workers, and show how far it is.

    To change the model: set MEMORY_EMBEDDING_MODEL, MEMORY_EMBEDDING_DIMENSION or the provider's
    variables, restart API and workers, then run this. Search is right all the time: until all of a
    user's vectors are made, their questions are asked with the old model.

    Ctrl-C stops showing it, not doing it. Run it again to go on watching; after a restart the
    workers go on where they were.
    """
    run_async(_reembed(load_settings(data_dir=data_dir), no_wait=no_wait, status=status))


async def _reembed(settings: Settings, *, no_wait: bool, status: bool) -> None:
    async with open_reembedding(settings) as (reembedding, live_workers):
        if not status:
            await reembedding.start()
        now = await reembedding.progress()
        say_note(f"{reembedding.model_id}: {now.done:,} of {now.total:,} passages{_state(now)}")
        if no_wait or status:
            return
        if not await live_workers():
            say_note("no worker is running: start one, it does the work")
        with progress("reembedded", now.total) as bar:
            while now.wanted:
                bar.show(min(now.done, now.total))
                await asyncio.sleep(LOOK_SECONDS)
                started = time.monotonic()
                now = await reembedding.progress()
                await asyncio.sleep((time.monotonic() - started) * LOOK_SHARE)
            bar.show(now.total)


def _state(now: ReembedProgress) -> str:
    return ", under way" if now.wanted else ""
