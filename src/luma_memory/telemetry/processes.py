"""When a process should stop: a signal, or its parent's end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable


def on_stop_signal(stop: Callable[[], None], *, with_parent: bool) -> None:
    """Call `stop` at SIGTERM or SIGINT, and, with_parent, when standard input ends.

    A parent that keeps our standard input open and is killed closes it by dying, so its children
    never outlive it unnoticed. Must be called from the running event loop.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _at_end_of_input, loop, stop)


def _at_end_of_input(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop()
