"""Writes log lines: all lines of one turn of the event loop share one write."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from threading import RLock
from typing import TextIO


class LineWriter:
    """The last link of structlog's chain; called with finished lines, from any thread.

    A worker completes dozens of jobs in one turn, each with a log line: written separately, each
    costs a system call and wakes the reader. Errors, and lines from outside a loop, are written
    immediately. The order is kept. Lines to a closed stream are dropped without an error.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []
        # The garbage collector may run while it is locked, and a finalizer may log.
        self._lock = RLock()
        self._planned_in: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def msg(self, line: str) -> None:
        """Write the line at the end of this turn, or now if no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.now(line)
            return
        with self._lock:
            self._lines.append(line)
            is_planned = self._planned_in is loop
            self._planned_in = loop
        if not is_planned:
            loop.call_soon(self.flush)

    def now(self, line: str) -> None:
        """Write the pending lines and this one."""
        with self._lock:
            self._lines.append(line)
        self.flush()

    def flush(self) -> None:
        """Write the pending lines."""
        with self._lock:
            self._planned_in = None
            lines, self._lines = self._lines, []
            if not lines:
                return
            text = "\n".join(lines) + "\n"
            # ValueError: closed by its owner.
            with contextlib.suppress(OSError, ValueError):
                try:
                    self._out.write(text)
                except UnicodeEncodeError as error:
                    self._out.write(text.encode(error.encoding, "backslashreplace").decode())
                self._out.flush()

    debug = info = log = warn = warning = msg
    critical = err = error = exception = fatal = failure = now
