"""A child process: its output line by line, its last lines and its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

LineSink: TypeAlias = Callable[[str, str], None]  # called with the process name and the line

LINE_BYTES_MAX = 1 << 20
TAIL_LINES = 8


class Child:
    """A process that exits with this one.

    It leads its own session, so Ctrl-C in the terminal reaches only the parent, which then stops
    the children in order. Its standard input stays open while the parent lives: a child that
    watches it (MEMORY_STOP_WITH_PARENT) also exits when the parent was killed.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, sink: LineSink) -> None:
        self.name = name
        self._process = process
        self._sink = sink
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._output = asyncio.create_task(self._read(), name=f"output-{name}")

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], environment: Mapping[str, str], sink: LineSink
    ) -> Child:
        """Start a process; `sink` receives each line of its standard output and error."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        return cls(name, process, sink)

    def send(self, line: bytes) -> None:
        """Write to its standard input; a no-op once it has exited."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that terminated it."""
        return self._process.returncode

    @property
    def last_lines(self) -> list[str]:
        return list(self._tail)

    async def wait(self) -> int:
        """Wait for its exit and for the last line of its output; the exit code."""
        code = await self._process.wait()
        await asyncio.shield(self._output)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children; a no-op once it has exited."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, *, grace_seconds: float) -> int:
        """Terminate it, and kill it after the grace period. Idempotent."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace_seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait()
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()

    @property
    def exit_reason(self) -> str:
        """How it exited, as the predicate of a sentence about it."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"was terminated by {signal.Signals(-code).name}"
        return f"exited with code {code}" if code is not None else "did not become ready"

    def exit_report(self) -> str:
        """How it exited and its last lines, for an error message."""
        lines = "".join(f"\n  {line}" for line in self._tail)
        return f"{self.name} {self.exit_reason}" + (f"; its last lines:{lines}" if lines else "")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than the limit: drop it
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\r\n")
            self._tail.append(text)
            # A closed terminal must not keep the child from stopping.
            with contextlib.suppress(OSError):
                self._sink(self.name, text)
