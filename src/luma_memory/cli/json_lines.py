"""JSON Lines with one block per line, as for POST /blocks. Invalid lines do not stop the others."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

# The service accepts 32 MB per request; a block takes at most about 2 MB.
LINE_BYTES_MAX = 4_000_000
BATCH_BYTES_MAX = 16_000_000
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BlockLine:
    """A line with a JSON object."""

    number: int  # from 1
    body: dict[str, Any]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was not stored, and why."""

    number: int
    code: str
    detail: str


def read_lines(lines: Iterable[bytes], *, user_id: str | None) -> Iterator[BlockLine | BadLine]:
    """The parsed lines without blank ones; those without a user_id get `user_id`.

    A line without an idempotency key gets one: the hash of all bytes up to its end. Sending a file
    again stores nothing twice, a file that has grown stores its new lines, and a line that occurs
    in two files becomes two blocks.
    """
    read = hashlib.sha256()
    for number, line in enumerate(lines, 1):
        read.update(line)
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        parsed = parse_line(number, text)
        if isinstance(parsed, BlockLine):
            if user_id is not None:
                parsed.body.setdefault("user_id", user_id)
            parsed.body.setdefault("idempotency_key", f"ingest-{read.hexdigest()[:40]}")
        yield parsed


def parse_line(number: int, line: bytes) -> BlockLine | BadLine:
    """Parse one line. Rejects non-finite numbers, which would invalidate the whole request."""
    if len(line) > LINE_BYTES_MAX:
        return BadLine(number, "line_too_long", f"more than {LINE_BYTES_MAX:,} bytes")
    try:
        body = json.loads(line.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError:
        return BadLine(number, "not_utf8", "the line is not UTF-8")
    except RecursionError:
        return BadLine(number, "malformed_json", "nested too deeply")
    except json.JSONDecodeError as error:
        return BadLine(number, "malformed_json", f"{error.msg} at character {error.pos + 1}")
    except ValueError as error:
        return BadLine(number, "malformed_json", str(error))
    if not isinstance(body, dict):
        return BadLine(number, "not_an_object", "a line must hold one JSON object")
    return BlockLine(number, body, len(line))


def batches(lines: Iterable[BlockLine], *, count_max: int) -> Iterator[Sequence[BlockLine]]:
    """The lines in order, in groups limited in number and bytes."""
    group: list[BlockLine] = []
    size_bytes = 0
    for line in lines:
        if group and (len(group) == count_max or size_bytes + line.size_bytes > BATCH_BYTES_MAX):
            yield group
            group, size_bytes = [], 0
        group.append(line)
        size_bytes += line.size_bytes
    if group:
        yield group


def looks_like_lines(document: bytes) -> bool:
    """Whether a document is JSON Lines rather than one JSON document with a `format`."""
    filled = (line for line in document.splitlines() if line.strip())
    first = next(filled, b"")
    parsed = parse_line(1, first.removeprefix(_BOM))
    return isinstance(parsed, BlockLine) and "conversations" not in parsed.body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
