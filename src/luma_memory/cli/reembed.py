"""`reembed`: embed all blocks with the configured model, online."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from luma_memory.bootstrap.operators import open_reembedding
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import print_note, progress
from luma_memory.cli.running import run_async
from luma_memory.pipeline.enrichment.reembed_watch import PAUSE_PER_READ
from luma_memory.ports.vector_models import ReembedProgress
from luma_memory.settings import Settings, load_settings

POLL_SECONDS = 1.0


@examples("luma-memory reembed", "luma-memory reembed --no-wait", "luma-memory reembed --status")
def reembed(
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start and return.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show the progress.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Embed all blocks with the configured model, in the workers, and show the progress.

    To switch models, set MEMORY_EMBEDDING_MODEL, MEMORY_EMBEDDING_DIMENSION or the provider's
    variables, restart API and workers, then run this command. Search stays correct: a user's
    queries use the old model until all of the user's blocks are embedded with the new one.

    Ctrl-C stops the display, not the work. Run the command again to continue watching. Workers
    resume after a restart.
    """
    run_async(_reembed(load_settings(data_dir=data_dir), no_wait=no_wait, status=status))


async def _reembed(settings: Settings, *, no_wait: bool, status: bool) -> None:
    async with open_reembedding(settings) as (reembedding, live_workers):
        if not status:
            await reembedding.start()
        now = await reembedding.progress()
        print_note(f"{reembedding.model_id}: {now.done:,} of {now.total:,} passages{_state(now)}")
        if no_wait or status:
            return
        if not await live_workers():
            print_note("no worker is running: start one with `luma-memory worker`")
        with progress("reembedded", now.total) as bar:
            while now.requested:
                bar.show(min(now.done, now.total))
                await asyncio.sleep(POLL_SECONDS)
                started = time.monotonic()
                now = await reembedding.progress()
                await asyncio.sleep((time.monotonic() - started) * PAUSE_PER_READ)
            bar.show(now.total)


def _state(now: ReembedProgress) -> str:
    return ", in progress" if now.requested else ""
