"""`python -m benchmarks`: measure everything, print one table, write JSON on request."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

import luma_memory.single_thread_blas  # noqa: F401 - before anything imports numpy
from benchmarks import (
    accept,
    agents,
    context,
    dropin,
    enrichment,
    importing,
    items,
    lists,
    partitions,
    provider,
    recall,
    recall_parts,
    reembedding,
    replica,
    scale,
    snapshots,
    webhooks,
)
from benchmarks.figures import Line, WrongResultError
from benchmarks.queues import section as queue
from benchmarks.sizes import FULL, SHORT, Sizes
from benchmarks.stack import Stack, machine, running_stack
from benchmarks.table import table
from luma_memory import __version__
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.telemetry.logs import configure_logs

Section = Callable[[Stack, Sizes], Awaitable[Sequence[Line]]]
SECTIONS: Mapping[str, Section] = {
    "one-client": accept.one_client,
    "keys": accept.with_keys,
    "items": items.write,
    "import": importing.rates,
    "busy-worker": accept.beside_busy_worker,
    "many-clients": accept.many_clients,
    "webhook-accepts": webhooks.accepting,
    "webhook-deliveries": webhooks.delivering,
    "worker": enrichment.throughput,
    "pickup": enrichment.idle_worker,
    "provider": provider.throughput,
    "search": recall.search,
    "recall-parts": recall_parts.compare,
    "search-sizes": scale.search,
    "reembed": reembedding.switch,
    "snapshots": snapshots.compare,
    "context": context.cached_and_not,
    "hanging-redis": context.hanging,
    "lists": lists.lists,
    "history": lists.history,
    "agents-tools": agents.tools,
    "agents-sessions": agents.sessions,
    "agents-hook": agents.hook,
    "dropin": dropin.compare,
    "queue": queue.compare,
    "partitions": partitions.partitions,
    "replica": replica.compare,
}


def main() -> int:
    arguments = _arguments()
    configure_logs(level="warning", json_lines=False)
    progress = Console(stderr=True)
    started, at = time.perf_counter(), datetime.now(UTC)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            lines = runner.run(_measure(arguments, progress))
    except (WrongResultError, LumaMemoryError) as error:
        progress.print(f"benchmarks: {error}", style="red", markup=False)
        return 1
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    report = {
        "version": __version__,
        "at": at.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 1),
        "short": arguments.short,
        "machine": machine(),
        "lines": [line.to_json() for line in lines],
    }
    _report(lines, report, arguments.json)
    missed = any(line.verdict == "miss" for line in lines)
    return 1 if missed and arguments.strict else 0


async def _measure(arguments: argparse.Namespace, progress: Console) -> Sequence[Line]:
    task = asyncio.current_task()
    assert task is not None
    # Stopped like by Ctrl-C, so that nothing it started stays behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    sizes = SHORT if arguments.short else FULL
    lines: list[Line] = []
    async with running_stack(arguments.data_dir) as stack:
        for name in arguments.only or SECTIONS:
            if name == "dropin" and not arguments.only and not dropin.is_installed():
                progress.print(f"left out: {dropin.MISSING}", style="yellow", markup=False)
                continue
            progress.print(f"measuring: {name}", style="dim", highlight=False)
            lines += await SECTIONS[name](stack, sizes)
        lines += [
            Line(f"start_{part}", f"start of {part}", value, "ms")
            for part, value in stack.start_ms.items()
        ]
    return lines


def _report(lines: Sequence[Line], report: Mapping[str, Any], path: Path | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table(lines))
    console.print(
        f"Luma Memory {report['version']}, {report['at']}, {report['seconds']:.0f} s,"
        f" {report['machine']}",
        highlight=False,
    )
    if path is not None:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small numbers, under 30 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="one section; may be repeated"
    )
    parser.add_argument("--strict", action="store_true", help="end with 1 when a target is missed")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the temporary database is made: the disk that is measured",
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
