"""Process setup of entry points: stop signals and garbage collection."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable

# New objects between two garbage collections of the youngest generation. Every batch of jobs or
# requests reaches Python's 700, and the libraries in memory (100,000 objects) were traversed again
# and again for a few cycles: a third of a worker's time outside its jobs.
_YOUNG_OBJECTS_MAX = 10_000


def collect_rarely() -> None:
    """Exclude everything loaded so far from garbage collection, and collect the rest less often.

    For a process that is about to serve until it stops; call it when everything is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS_MAX, 20, 50)


def on_stop_signal(
    stop: Callable[[], None], *, with_parent: bool, linger_seconds: float = 0.0
) -> None:
    """Call `stop` at SIGTERM or SIGINT, and, with_parent, when standard input ends.

    If the parent is killed, the kernel closes the standard input it kept open, so its children
    never outlive it unnoticed. linger_seconds: for how long they do. Must be called from the
    running event loop.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _at_end_of_input, loop, stop, linger_seconds)


def _at_end_of_input(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], None], linger_seconds: float
) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        loop.call_later(linger_seconds, stop)
