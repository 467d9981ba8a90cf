"""JSON as a stream of values, from files that may be hostile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, BinaryIO, Final

import ijson

# Real exports stay below 20.
_DEPTH_MAX: Final = 200
# One conversation; years of an export of them are read one by one.
ITEM_BYTES_MAX: Final = 128 << 20
_DIGITS_MAX: Final = 1_000
_LONG_NUMBER: Final = re.compile(rb"[0-9]{%d}" % (_DIGITS_MAX + 1))
_NO_BRACKETS: Final = bytes(set(range(256)).difference(b"[]{}"))


def json_items(stream: BinaryIO, prefix: str) -> Iterator[Any]:
    """The values at a path of a JSON document, one at a time; "item" for the items of an array.

    Raises ijson.JSONError if the document is incomplete, malformed or nested too deeply.
    """
    source = _Source(stream)
    with _not_text():
        for item in ijson.items(source, prefix, use_float=True):
            source.begin_item()
            yield item


def events(stream: BinaryIO) -> Iterator[tuple[str, str, Any]]:
    """Path, kind and value of each event. Raises ijson.JSONError as `json_items`."""
    source = _Source(stream)
    with _not_text():
        for event in ijson.parse(source, use_float=True):
            source.begin_item()
            yield event


def keyed_items(stream: BinaryIO, *keys: str) -> Iterator[tuple[str, Any]]:
    """Items of several arrays at the top of a JSON document, in its order, each with its key.

    Raises ijson.JSONError as `json_items`.
    """
    builder, of = None, ""
    prefixes = {f"{key}.item": key for key in keys}
    source = _Source(stream)
    with _not_text():
        for prefix, event, value in ijson.parse(source, use_float=True):
            if builder is None:
                source.begin_item()
                if (key := prefixes.get(prefix)) is None:
                    continue
                builder, of = ijson.ObjectBuilder(), key
            builder.event(event, value)
            if prefixes.get(prefix) == of and event not in ("start_map", "start_array", "map_key"):
                yield of, builder.value
                builder = None


@contextmanager
def _not_text() -> Iterator[None]:
    """The parser lets some bytes through that are no UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ijson.JSONError("not UTF-8") from error


def problem(error: Exception) -> str:
    """What a JSON parser said, as one line."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return text.strip().partition("\n")[0] or "malformed JSON"


class _Source:
    """JSON that is read, and refused where the parser would not get through, or an item would take
    the memory of the process.

    It keeps the path of where it is, so that its time would grow with the square of the depth; and
    it ends the process at an integer that Python does not convert. Neither counts in strings.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._rest = b""
        self._is_string = False
        self._depth = 0
        self._digits = b""
        self._item_bytes = 0

    def begin_item(self) -> None:
        self._item_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._item_bytes += len(data)
        if self._item_bytes > ITEM_BYTES_MAX:
            raise ijson.JSONError(f"an item of more than {ITEM_BYTES_MAX >> 20} MB")
        # Without escaped quotes and backslashes, quotes alone begin and end strings.
        text = (self._rest + data).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._rest = b"\\" if text.endswith(b"\\") else b""
        pieces = text.split(b'"')
        outside = b'"'.join(pieces[self._is_string :: 2])
        self._is_string ^= len(pieces) % 2 == 0
        brackets = outside.translate(None, _NO_BRACKETS)
        if brackets:
            self._count(brackets)
        if not self._is_string or len(pieces) > 1:
            self._check_digits(outside)
        return data

    def _check_digits(self, outside: bytes) -> None:
        text = self._digits + outside
        if _LONG_NUMBER.search(text):
            raise ijson.JSONError(f"a number of more than {_DIGITS_MAX} digits")
        self._digits = text[len(text.rstrip(b"0123456789")) :]

    def _count(self, brackets: bytes) -> None:
        opening = brackets.count(b"[") + brackets.count(b"{")
        if self._depth + opening > _DEPTH_MAX:
            steps = (1 if bracket in b"[{" else -1 for bracket in brackets)
            if max(accumulate(steps, initial=self._depth)) > _DEPTH_MAX:
                raise ijson.JSONError(f"nested more than {_DEPTH_MAX} levels deep")
        self._depth = max(0, self._depth + 2 * opening - len(brackets))
