"""The worker's part of the measurement: print the times at which its handler was called.

The clock is the machine's monotonic one, which all its processes share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

PREFIX = "handled"


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`th call of a worker's handler."""

    number: int
    at_ns: int


class Handled:
    """Called first by every handler; prints each `every`th call."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._calls = 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % self._every == 0:
            now = time.monotonic_ns()
            print(PREFIX, self._calls, now, flush=True)


def read_call(line: str) -> Call | None:
    """The call that a line reports; None for any other line."""
    words = line.split()
    if len(words) != 3 or words[0] != PREFIX:
        return None
    return Call(int(words[1]), int(words[2]))
