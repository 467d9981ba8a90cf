"""`top`: monitor queue, workers, cache and latencies of a running service."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich.live import Live

from luma_memory.cli.commands import examples
from luma_memory.cli.latencies import request_histograms
from luma_memory.cli.options import Url, service_url
from luma_memory.cli.output import console
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.top_view import FAILURES_SHOWN, Snapshot, trouble_view, view
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import load_settings

# Between the two snapshots of --once: rates need a period.
_ONCE_SECONDS = 1.0


@examples(
    "luma-memory top",
    "luma-memory top --interval 5 --url https://memory.example.com",
    "luma-memory top --once",
)
def top(
    url: Url = None,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECONDS", min=0.2, max=60, help="Time between two updates."
        ),
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
) -> None:
    """Monitor queue, workers, cache and latencies of a running service, until Ctrl-C.

    Latencies are those of one API process since the previous update, without the requests of this
    command. They require the admin permission; failed jobs require read.
    """
    settings = load_settings()
    address = service_url(url, settings)
    run_async(_watch(ServiceClient(address, api_key=settings.client_key), address, interval, once))


async def _watch(client: ServiceClient, url: str, interval: float, once: bool) -> None:
    async with client:
        if once:
            first = await _read(client)
            await asyncio.sleep(_ONCE_SECONDS)
            console().print(view(await _read(client), first, url))
            return
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            before: Snapshot | None = None
            while True:
                try:
                    snapshot = await _read(client)
                    live.update(view(snapshot, before, url), refresh=True)
                    before = snapshot
                except LumaMemoryError as error:
                    # The service may be restarting, which is when an operator watches.
                    live.update(trouble_view(str(error), url), refresh=True)
                    before = None
                await asyncio.sleep(interval)


async def _read(client: ServiceClient) -> Snapshot:
    """Raises UnavailableError or SetupError when the service does not respond."""
    health = await client.health()
    notes: list[str] = []
    stats, cache, requests, failures = None, None, None, None
    try:
        stats, cache = await client.job_stats(), await client.cache_stats()
        failures = (await client.list_jobs(status="failed", limit=FAILURES_SHOWN)).jobs
        requests = request_histograms(await client.metrics())
    except LumaMemoryError as error:  # missing permission, database unavailable
        notes.append(str(error))
    return Snapshot(
        at=time.monotonic(),
        health=health,
        stats=stats,
        cache=cache,
        requests=requests,
        failures=failures,
        notes=notes,
    )
