"""Block ids: UUIDv7, so that consecutive keys are adjacent in the index."""

from __future__ import annotations

import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


class IdMaker:
    """Creates ids that increase within this process, even within one millisecond.

    Source: RFC 9562 section 5.7; the 12 bits after the version count within a millisecond as in
    section 6.2, method 1.
    """

    def __init__(self) -> None:
        self._last_ms = 0
        self._count = 0

    def make(self) -> UUID:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms, self._count = now_ms, 0
        else:  # same millisecond, or a clock set back: continue from the last one
            self._count += 1
            if self._count > 0xFFF:
                self._last_ms, self._count = self._last_ms + 1, 0
        tail = int.from_bytes(os.urandom(8), "big") >> 2
        return UUID(int=self._last_ms << 80 | _VERSION_7 | self._count << 64 | _VARIANT | tail)
