"""Files that broke, lie or attack: a result or one clear error, and no more time than others."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.exports import (
    blocks,
    chatgpt_conversation,
    chatgpt_node,
    items,
    reasons,
    skipped,
    write,
)

from luma_memory.domain.errors import Invalid
from luma_memory.importers.assignment import Assignment, groups
from luma_memory.importers.formats import FORMATS
from luma_memory.importers.records import ImportOptions, Item

CUE = "1\n00:00:01,000 --> 00:00:02,000\n"
MAPPED = ImportOptions(mapping={"content": "a", "occurred_at": "b"})
WRONG_KINDS: list[object] = [
    *(1, None, "x", [], {"id": [1], "mapping": []}),
    {"id": "x", "mapping": {"a": 5, "b": {"message": {"id": {}, "author": 3, "content": 7}}}},
    {"uuid": "c", "chat_messages": [3, {"uuid": {}, "sender": [], "content": [None]}]},
    {"id": "1", "memory": "x", "metadata": [1], "categories": {"a": 1}, "created_at": [1]},
    {"type": "message", "ts": {}, "text": []},
]
WRONG_KINDS_BY_KEY: dict[str, object] = {
    "agents": [1, {"messages": [1, {"role": [], "content": 5}, {"role": "user", "content": [1]}]}],
    "blocks": [1, {"value": 3}, {"value": "x", "label": [1]}],
    "episodes": [1, {"content": 3}, {"content": "x", "uuid": [1], "valid_at": {}}],
    "edges": [{"fact": "x", "invalid_at": [1]}],
    "nodes": [{"name": [1], "summary": "x"}],
    "results": WRONG_KINDS,
}


def conversation(text: str) -> list[dict[str, Any]]:
    return [chatgpt_conversation(chatgpt_node("a", "root", text=text), current="a")]


def read(path: Path, format_: str) -> tuple[list[Item], str]:
    """The items, or the code of the error."""
    try:
        return items(path, MAPPED, format_=format_), ""
    except Invalid as error:
        return [], error.code


@pytest.mark.parametrize("format_", FORMATS)
def test_no_format_fails_at_what_it_does_not_expect(tmp_path: Path, format_: str) -> None:
    contents = {
        "binary": bytes(range(256)) * 50,
        "empty": b"",
        "kinds": WRONG_KINDS,
        "keys": WRONG_KINDS_BY_KEY,
        "broken": json.dumps(WRONG_KINDS_BY_KEY)[:-9],
        "surrogates": b'{"blocks": [{"value": "\xed\xa0\x80"}]}',
        "list": b'[{"id": "1", "memory": "\xed\xa0\x80"}]',
        "lines": "\n".join(json.dumps(entry) for entry in WRONG_KINDS),
    }
    for title, content in contents.items():
        path = write(tmp_path, {title: content})
        found, code = read(path, format_)
        if code:
            assert code in ("encoding_unknown", "date_order_ambiguous"), title
            continue
        assert found, f"{title} is reported"
        for group in groups(iter(found), Assignment("u", {}), title="t", count_max=500):
            json.dumps(group.bodies, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[: len(data) // 2], "damaged or incomplete"),
        (lambda data: data.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"), "encrypted"),
        (lambda data: data[:60] + bytes(20) + data[80:], "damaged or incomplete"),
    ],
)  # fmt: skip
def test_a_damaged_archive_is_explained(tmp_path: Path, damage: Any, problem: str) -> None:
    path = write(tmp_path / "export", {"conversations.json": conversation("x" * 99)}, zipped=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Invalid, match=problem) as refused:
        items(path)
    assert refused.value.code == "file_unreadable"


def test_no_changed_byte_of_an_archive_is_an_unexpected_error(tmp_path: Path) -> None:
    path = write(tmp_path / "export", {"conversations.json": conversation("x")}, zipped=True)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xB5]) + data[place + 1 :])
        _, code = read(path, "chatgpt")
        assert code in ("", "file_unreadable", "archive_suspicious"), place


def test_encodings(tmp_path: Path) -> None:
    text = json.dumps(conversation("Grüße 🪵"), ensure_ascii=False)
    for encoding, mark in (("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE)):
        path = write(tmp_path, {"conversations.json": mark + text.encode(encoding)})
        assert [block.content for block in blocks(items(path))] == ["Grüße 🪵"]
    chat = "13/03/2026, 09:05 - Ada: Grüße\n"
    path = write(tmp_path, {"chat.txt": chat.encode("utf-16")})
    assert [block.content for block in blocks(items(path))] == ["Grüße"]
    path = write(tmp_path, {"chat.txt": chat.encode("latin-1")})
    with pytest.raises(Invalid, match="is not UTF-8"):
        items(path)
    # One bad byte in a long chat costs one character.
    path = write(tmp_path, {"chat.txt": (chat * 3_000).encode() + chat.encode("latin-1")})
    assert blocks(items(path))[-1].content == "Gr\ufffd\ufffde"


@pytest.mark.parametrize("format_", ["chatgpt", "claude", "mem0", "graphiti", "letta", "mapped"])
def test_json_that_a_parser_would_not_get_through(tmp_path: Path, format_: str) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    for hostile, problem in (
        (deep, "nested more than 200 levels deep"),
        (b"9" * 100_000, "a number of more than 1000 digits"),
        (b'"' + b"9" * 100_000 + b'"', ""),  # a string of any length is only a string
        (b'"' + b'[\\\\\\"' * 100_000 + b'"', ""),
    ):
        key = {"graphiti": b'{"episodes":', "letta": b'{"blocks":'}.get(format_, b"")
        path = write(tmp_path, {"x.json": key + b'[{"x":' + hostile + b"}]" + b"}" * bool(key)})
        found = items(path, MAPPED, format_=format_)
        details = [item.detail for item in found if hasattr(item, "detail")]
        assert (problem in details) == bool(problem)


def test_an_item_that_would_take_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luma_memory.importers.json_streams.ITEM_BYTES_MAX", 1 << 20)
    small = json.dumps({"id": "1", "memory": "x" * 100_000}).encode()
    huge = b'{"id": "2", "memory": "' + b"x" * (2 << 20) + b'"}'
    path = write(tmp_path, {"m.json": b"[" + b",".join([small] * 40 + [huge, small]) + b"]"})
    found = items(path)
    assert len(blocks(found)) == 40
    assert [item.detail for item in found if hasattr(item, "detail")] == [
        "an item of more than 1 MB"
    ]
    path = write(tmp_path, {"g.json": b'{"edges": [' + huge + b"]}"})
    assert reasons(items(path, format_="graphiti")) == ["malformed"]


def test_what_cannot_be_stored_becomes_a_replacement_character(tmp_path: Path) -> None:
    line = rb'{"messages":[{"role":"user","content":"a\u0000 b\ud83d c\ud83e\udeb5"}]}'
    (block,) = blocks(items(write(tmp_path, {"x.jsonl": line + b"\n"})))
    assert block.content == "a\ufffd b\ufffd c🪵"
    path = write(
        tmp_path, {"m.json": b'[{"id":"1","memory":"x","metadata":{"k\\u0000":["\\u0000"]}}]'}
    )
    (group,) = groups(iter(items(path)), Assignment("u", {}), title="t", count_max=9)
    assert group.bodies[0]["metadata"] == {"k\ufffd": ["\ufffd"]}


def test_a_line_without_end_is_one_skipped_item(tmp_path: Path) -> None:
    good = '{"messages":[{"role":"user","content":"hi"}]}\n'
    lines = {
        "x.jsonl": (good + "9" * 9_000_000 + "\n" + good, "openai-jsonl", 2),
        "x.csv": ("a,b\nhi,\n" + "x" * 9_000_000 + "\nho,\n", "mapped", 2),
        "x.srt": (f"{CUE}hi\n\n" + "x" * 9_000_000 + "\n", "transcript", 1),
        "x.txt": ("13/03/2026, 09:05 - A: hi\n" + "x" * 9_000_000 + "\n", "whatsapp", 1),
    }
    for name, (text, format_, count) in lines.items():
        found = items(write(tmp_path, {name: text}), MAPPED, format_=format_)
        assert len(blocks(found)) == count, name
        assert reasons(found) == ["too_long"], name


def test_front_matter_that_grows_or_lies(tmp_path: Path) -> None:
    grows = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    notes = {
        "bomb.md": f"---\n{grows}tags: [*j, wood]\ntitle: *j\n---\nx\n",
        "date.md": "---\ndate: 2026-13-45\n---\nx\n",
        "deep.md": "---\na: " + "[" * 2_000 + "\n---\nx\n",
        "long.md": "---\na: " + "x" * 200_000 + "\n---\nx\n",
        # Integers without decimal digits, of which Python writes no more than 4,300.
        "number.md": "---\ntitle: 0x" + "f" * 6_000 + "\n---\nx\n",
        "sixty.md": "---\nmetadata: {a: 1" + ":59" * 6_000 + "}\n---\nx\n",
    }
    found = items(write(tmp_path, notes))
    (block,) = blocks(found)
    assert block.metadata == {"title": "bomb", "path": "bomb.md", "tags": ["wood"]}
    assert reasons(found) == ["malformed"] * 5


def test_texts_that_make_patterns_slow(tmp_path: Path) -> None:
    spaces = "13/03/2026, 09:05 - A: a" + " " * 300_000 + "b\n"
    assert len(blocks(items(write(tmp_path, {"chat.txt": spaces})))) == 2
    for filler in ("\u200e", " ", "13/03/2026, ", "13/03/2026 9:05\u202f"):
        path = write(tmp_path, {"chat.txt": "13/03/2026" + filler * 200_000 + "\n"})
        assert reasons(items(path, format_="whatsapp")) == ["malformed"]
    tags = CUE + "<a" * 200_000 + "\n"
    for text in (tags, CUE + "{\\" * 200_000 + "\n", CUE + "<v" + " " * 200_000 + "x\n"):
        assert blocks(items(write(tmp_path, {"x.srt": text})))
    long = [chatgpt_conversation(chatgpt_node("a", "root", text="x" * 5_000_000), current="a")]
    assert len(blocks(items(write(tmp_path, {"c.json": long})))) == 50


def test_neither_a_pipe_nor_an_empty_file_is_an_export(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Invalid, match="neither a file nor a folder"):
        items(tmp_path / "pipe")
    for content in ({"x.json": b""}, {"a/x.json": b"", "b/y.txt": b""}):
        with pytest.raises(Invalid, match="is empty"):
            items(write(tmp_path / "empty", content))
    (tmp_path / "folder").mkdir()
    with pytest.raises(Invalid, match="is empty"):
        items(tmp_path / "folder")


def test_a_chat_among_many_pictures_is_found(tmp_path: Path) -> None:
    pictures = {f"{n:08}-PHOTO.jpg": b"\xff\xd8\xff" for n in range(60)}
    files = {**pictures, "_chat.txt": "[13.03.26, 09:05:07] Ada: hi\n"}
    path = write(tmp_path / "WhatsApp Chat - Bo", files, zipped=True)
    (block,) = blocks(items(path))
    assert block.metadata == {"chat": "Bo"}
    assert skipped(items(path)) == []
