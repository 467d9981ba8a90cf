"""A request body of JSON lines, parsed as it arrives and never held as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import Request

from luma_memory.api.strict_json import parse_strictly
from luma_memory.domain.errors import Invalid

LINE_BYTES_MAX: Final = 8_000_000


async def json_lines(request: Request) -> AsyncIterator[tuple[int, Any]]:
    """Each line's length in bytes and its value; blank lines are skipped.

    Raises Invalid, naming the line, if it is too long or not JSON.
    """
    number, rest = 0, bytearray()
    async for chunk in request.stream():
        rest += chunk
        *lines, last = rest.split(b"\n") if b"\n" in chunk else (rest,)
        for line in lines:
            number += 1
            if line.strip():
                yield len(line), _parsed(number, line)
        rest = bytearray(last)
        if len(rest) > LINE_BYTES_MAX:
            raise Invalid(f"Line {number + 1} is too long", code="import_line_invalid")
    if rest.strip():
        yield len(rest), _parsed(number + 1, rest)


def _parsed(number: int, line: bytearray) -> Any:
    try:
        return parse_strictly(bytes(line))
    except ValueError:
        raise Invalid(f"Line {number} is not JSON", code="import_line_invalid") from None
