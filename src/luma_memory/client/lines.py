"""Assembles JSON lines from chunks, and checks that an export is complete."""

from __future__ import annotations

import json

from luma_memory.domain.errors import UnavailableError


class Lines:
    """Splits chunks into lines; the last line of an export marks its end."""

    def __init__(self) -> None:
        self._rest = b""
        self._last = b""

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that this chunk completes, each with its line break."""
        whole, found, rest = (self._rest + piece).rpartition(b"\n")
        self._rest = rest
        lines = (whole + found).splitlines(keepends=True)
        if lines:
            self._last = lines[-1]
        return lines

    def check_end(self) -> None:
        """Raises UnavailableError (code export_incomplete) if the end is missing."""
        if self._rest or not _is_end(self._last):
            raise UnavailableError("The export was cut off", code="export_incomplete")


def _is_end(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("kind") == "end"
