"""JSON lines: what is read, what is refused, and which key a line gets."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.cli.json_lines import (
    BATCH_BYTES_MAX,
    LINE_BYTES_MAX,
    BadLine,
    BlockLine,
    batches,
    looks_like_lines,
    parse_line,
    read_lines,
)


def good(lines: Iterable[bytes], user_id: str | None = None) -> list[BlockLine]:
    return [line for line in read_lines(lines, user_id=user_id) if isinstance(line, BlockLine)]


def keys(document: bytes) -> list[str]:
    return [line.body["idempotency_key"] for line in good(document.splitlines(keepends=True))]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "malformed_json"),
        (b"[1]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"metadata": {"n": NaN}}', "malformed_json"),
        (b'{"metadata": {"n": 1e999}}', "malformed_json"),
        (b'{"metadata": {"n": -Infinity}}', "malformed_json"),
        (b'{"content": "\xff"}', "not_utf8"),
        (b"[" * 200_000, "malformed_json"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "malformed_json"),
        (b" " * (LINE_BYTES_MAX + 1), "line_too_long"),
    ],
)
def test_a_bad_line_has_its_number_and_a_code(line: bytes, code: str) -> None:
    parsed = parse_line(7, line)
    assert isinstance(parsed, BadLine)
    assert (parsed.number, parsed.code) == (7, code)


def test_numbers_count_every_line_and_blank_ones_are_skipped() -> None:
    read = list(read_lines([b'{"a": 1}\n', b"\n", b"oops\n", b'{"a": 2}'], user_id=None))
    assert [(type(line), line.number) for line in read] == [
        (BlockLine, 1),
        (BadLine, 3),
        (BlockLine, 4),
    ]


def test_the_user_is_given_only_to_lines_without_one() -> None:
    lines = good([b'{"user_id": "ada"}\n', b"{}\n"], user_id="eve")
    assert [line.body["user_id"] for line in lines] == ["ada", "eve"]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert good([b'\xef\xbb\xbf{"content": "x"}\n'])[0].body["content"] == "x"


def test_a_key_of_the_line_itself_stays() -> None:
    assert keys(b'{"idempotency_key": "mine"}\n') == ["mine"]


def test_equal_lines_are_different_blocks_within_a_file_and_across_files() -> None:
    once = b'{"content": "yes"}\n'
    elsewhere = b'{"content": "no"}\n' + once
    assert len({*keys(once * 3), *keys(elsewhere)}) == 5


@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=2), max_size=8), st.data())
def test_a_file_that_grew_keeps_the_keys_it_had(
    bodies: list[dict[str, str]], data: st.DataObject
) -> None:
    document = b"".join(json.dumps(body).encode() + b"\n" for body in bodies)
    length = data.draw(st.integers(0, len(bodies)))
    shorter = b"".join(json.dumps(body).encode() + b"\n" for body in bodies[:length])
    assert keys(document)[:length] == keys(shorter)


def test_batches_keep_the_order_and_both_bounds() -> None:
    sizes = [1, 1, 1, BATCH_BYTES_MAX, 1, BATCH_BYTES_MAX + 1, 1]
    lines = [BlockLine(number, {}, size) for number, size in enumerate(sizes)]
    groups = [[line.number for line in group] for group in batches(lines, count_max=2)]
    assert groups == [[0, 1], [2], [3], [4], [5], [6]]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b'{"content": "x"}\n{"content": "y"}\n', True),
        (b'\n{"content": "x"}', True),
        (b'{"format": "memory-retrieval/1", "conversations": []}', False),
        (b'{\n "format": "memory-retrieval/1"}', False),
        (b"", False),
    ],
)
def test_json_lines_are_distinguished_from_a_document(document: bytes, expected: bool) -> None:
    assert looks_like_lines(document) is expected
