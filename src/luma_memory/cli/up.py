"""`up`: the whole service in one terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from luma_memory import __version__
from luma_memory.bootstrap.database import data_dir as data_dir_of
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir, Host, Port
from luma_memory.cli.output import console, printable
from luma_memory.cli.processes import Stack
from luma_memory.protocol.base_path import BASE_PATH
from luma_memory.settings import Settings, load_settings

_COLORS = {"database": "blue", "api": "cyan"}
_WORKER_COLORS = ("magenta", "green", "yellow")


@examples(
    "luma-memory up",
    "luma-memory up --port 9000 --data-dir data",
    "luma-memory up --workers 2",
)
def up(
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, max=64, help="Worker processes.")
    ] = 1,
) -> None:
    """Run database, API and worker in one terminal, until Ctrl-C.

    Without DATABASE_URL, an embedded PostgreSQL stores the data in the data directory. Ctrl-C stops
    everything in order; a second Ctrl-C stops without waiting for running jobs and requests.
    """
    settings = load_settings(data_dir=data_dir, host=host, port=port)
    asyncio.run(_run(settings, workers))


async def _run(settings: Settings, workers: int) -> None:
    printer = LinePrinter(console(), workers)
    stack = Stack(
        settings, workers=workers, exclusive=True, spare=settings.spare_process, on_line=printer
    )
    stop = asyncio.Event()
    _on_signals(stop, on_repeat=stack.kill)
    _announce_start(settings, printer)
    starting = asyncio.create_task(stack.start())
    try:
        if await _first(starting, stop):
            _announce(stack, printer)
            await _first(asyncio.create_task(stack.watch()), stop)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if stack.children:
            printer("up", "stopping …")
        await stack.stop()
        if stack.children:
            printer("up", "stopped")


async def _first(work: asyncio.Task[None], stop: asyncio.Event) -> bool:
    """True when the work ended by itself (raises its error), False when stop was requested."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if work in done:
        work.result()
        return not stop.is_set()
    work.cancel()
    return False


def _on_signals(stop: asyncio.Event, *, on_repeat: Callable[[], None]) -> None:
    def on_signal() -> None:
        if stop.is_set():
            on_repeat()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays effective
            asyncio.get_running_loop().add_signal_handler(number, on_signal)


class LinePrinter:
    """Prints lines of several processes, each after the name of its process."""

    def __init__(self, out: Console, workers: int) -> None:
        self._out = out
        self._width = 8 if workers <= 1 else 9

    def __call__(self, name: str, line: str) -> None:
        prefix = Text(f"{name:<{self._width}} │ ", style=_color(name))
        self._out.print(prefix + Text(printable(line)), soft_wrap=True)


def _color(name: str) -> str:
    number = name.partition("-")[2]
    if name.startswith("worker"):
        return _WORKER_COLORS[(int(number or 1) - 1) % len(_WORKER_COLORS)]
    return _COLORS.get(name, "bold")


def _announce_start(settings: Settings, printer: LinePrinter) -> None:
    printer("up", f"Luma Memory {__version__} is starting")
    where = "of DATABASE_URL" if settings.database_url else f"in {data_dir_of(settings)}"
    printer("database", f"PostgreSQL {where}")


def _announce(stack: Stack, printer: LinePrinter) -> None:
    base = stack.base_url + BASE_PATH
    body = '{"user_id": "ada", "content": "The flat in Lisbon has a view of the river."}'
    for line in (
        f"ready on {stack.base_url} (Ctrl-C stops everything)",
        f"documentation: {base}/docs",
        f"try: curl -s {base}/blocks -H 'Content-Type: application/json' -d '{body}'",
    ):
        printer("up", line)
