"""JSON lines as they arrive in pieces, and whether all of them came."""

from __future__ import annotations

import json

from luma_memory.domain.errors import UnavailableError


class Lines:
    """Puts lines together from pieces; the last line of an export says that it is one."""

    def __init__(self) -> None:
        self._rest = b""
        self._last = b""

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes, each with its line break."""
        whole, found, rest = (self._rest + piece).rpartition(b"\n")
        self._rest = rest
        lines = (whole + found).splitlines(keepends=True)
        if lines:
            self._last = lines[-1]
        return lines

    def check_end(self) -> None:
        """Raises UnavailableError (code export_incomplete) when the end is missing."""
        if self._rest or not _is_end(self._last):
            raise UnavailableError("The export was cut off", code="export_incomplete")


def _is_end(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("kind") == "end"
