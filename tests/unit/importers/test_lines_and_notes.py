"""OpenAI's JSON lines, mapped JSON and CSV, transcripts, notes; and what no format recognizes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.support.exports import blocks, detected, items, reasons, write

from luma_memory.domain.errors import Invalid
from luma_memory.importers.mapped import check_mapping, load_mapping
from luma_memory.importers.records import ImportOptions, UnknownFormat


def test_messages_as_json_lines(tmp_path: Path) -> None:
    lines = (
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"},'
        ' {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},'
        ' {"role": "assistant", "content": null, "tool_calls": [{}]}]}\n'
        "no json\n\n"
        '{"custom_id": "r1", "body": {"messages": [{"role": "user", "content": "Again"}]}}\n'
    )
    path = write(tmp_path, {"train.jsonl": lines})
    found = items(path)
    assert detected(path) == "openai-jsonl"
    assert [block.content for block in blocks(found)] == ["Hi", "Hello", "Again"]
    assert blocks(found)[0].session_id == blocks(found)[1].session_id
    assert blocks(found)[2].session_id == "r1"
    assert blocks(found)[0].occurred_at is None
    assert reasons(found) == ["system", "tool", "malformed"]
    assert [block.external_id for block in blocks(items(path))] == [
        block.external_id for block in blocks(found)
    ]


MAPPING: dict[str, Any] = {
    "content": "{title}: {body.text}",
    "records": "data.notes",
    "external_id": "id",
    "occurred_at": "when",
    "speaker": "by",
    "user": "owner",
    "metadata": ["lang", "missing"],
}


def test_mapped_json(tmp_path: Path) -> None:
    notes = [
        {
            "id": 7,
            "title": "Oak",
            "body": {"text": "is hard"},
            "when": "2026-03-02T09:00:00",
            "by": "Ada",
            "owner": "ada",
            "lang": "en",
        },
        {"id": 8, "title": "", "body": {}, "when": "05/03/2026"},
        {"id": 9, "title": "Elm", "body": {"text": "bends"}, "when": "05/03/2026"},
        "odd",
    ]
    path = write(tmp_path, {"notes.json": {"data": {"notes": notes}}})
    options = ImportOptions(mapping=MAPPING, time_zone=ZoneInfo("Asia/Tokyo"))
    found = items(path, options)
    (block, *_) = blocks(found)
    assert (block.external_id, block.content, block.speaker) == ("mapped:7", "Oak: is hard", "Ada")
    assert block.occurred_at == datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
    assert block.metadata == {"lang": "en"}
    assert block.owner == "ada"
    assert "time_not_understood" in reasons(found)
    assert "malformed" in reasons(found)


def test_mapped_csv_with_its_own_dates(tmp_path: Path) -> None:
    text = 'id;text;tag\n1;"Zeile eins\nZeile zwei";a\n2;;b\n3;x;\n'
    path = write(tmp_path, {"notes.csv": "\ufeff" + text})
    mapping = {"content": "text", "external_id": "id", "metadata": ["tag"]}
    found = items(path, ImportOptions(mapping=mapping))
    assert [(block.content, block.metadata) for block in blocks(found)] == [
        ("Zeile eins\nZeile zwei", {"tag": "a"}),
        ("x", {}),
    ]
    assert reasons(found) == ["empty"]
    dated = {"content": "text", "occurred_at": "id", "date_format": "%d.%m.%Y"}
    path = write(tmp_path / "b", {"notes.csv": "id,text\n05.03.2026,x\nMay,y\n"})
    found = items(path, ImportOptions(mapping=dated))
    assert blocks(found)[0].occurred_at == datetime(2026, 3, 5, tzinfo=UTC)
    assert reasons(found) == ["time_not_understood"]


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({}, "content is missing"),
        ({"content": "a", "contents": "b"}, "contents is not one of"),
        ({"content": 3}, "content must be a text"),
        ({"content": "a", "metadata": "b"}, "metadata must be a list"),
    ],
)
def test_an_invalid_mapping_is_explained(mapping: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        check_mapping(mapping)


def test_a_mapping_file_that_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("content: x")
    with pytest.raises(Invalid, match="can't be read as TOML"):
        load_mapping(path)


VTT = """WEBVTT

NOTE made by hand

intro
00:00:01.000 --> 00:00:03.000 align:start
<v Ada>We meet at <b>eight</b>.

00:00:04.000 --> 00:00:05.000
<v Bo>Good &amp; early.

00:00:05.500 --> 00:00:06.000
<v Bo>See you.
"""
VOICES = """WEBVTT

00:01.000 --> 00:02.000
<v Ada>Eight?</v>
<v Bo Ž>At <i>nine</i>.</v> <v.loud Ada>No!</v>

00:03.000 --> 00:04.000
(noise) <v Bo Ž>Yes.
"""
SRT = """1
00:00:01,000 --> 00:00:02,000
Grüße aus
Kiel!

2
00:10:00,500 --> 00:10:02,000
{\\an8}Später.
"""


def test_transcripts(tmp_path: Path) -> None:
    starts_at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    path = write(tmp_path, {"meeting.vtt": VTT})
    found = blocks(items(path, ImportOptions(starts_at=starts_at)))
    assert detected(path) == "transcript"
    assert [(block.speaker, block.content) for block in found] == [
        ("Ada", "We meet at eight."),
        ("Bo", "Good & early. See you."),
    ]
    assert found[1].occurred_at == datetime(2026, 3, 2, 9, 0, 4, tzinfo=UTC)
    path = write(tmp_path, {"talk.srt": SRT})
    found = blocks(items(path))
    assert [block.content for block in found] == ["Grüße aus Kiel!", "Später."]
    assert found[0].occurred_at is None


def test_voices_that_speak_in_one_cue(tmp_path: Path) -> None:
    found = blocks(items(write(tmp_path, {"meeting.vtt": VOICES})))
    assert [(block.speaker, block.content) for block in found] == [
        ("Ada", "Eight?"),
        ("Bo Ž", "At nine."),
        ("Ada", "No!"),
        (None, "(noise)"),
        ("Bo Ž", "Yes."),
    ]


def test_a_cue_without_a_time_is_reported(tmp_path: Path) -> None:
    text = f"1\n00:00:xx,000 --> 00:00:02,000\nLost.\n\n{SRT}"
    found = items(write(tmp_path, {"talk.srt": text}))
    assert [block.content for block in blocks(found)] == ["Grüße aus Kiel!", "Später."]
    assert reasons(found) == ["malformed"]


def test_hours_that_are_set_back_or_forward(tmp_path: Path) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    # A recording through the night in which 02:00 became 03:00.
    starts_at = datetime(2026, 3, 29, 1, 30, tzinfo=berlin)
    path = write(tmp_path, {"night.srt": "1\n02:00:00,000 --> 02:00:01,000\nLate.\n"})
    (block,) = blocks(items(path, ImportOptions(starts_at=starts_at)))
    assert block.occurred_at is not None
    assert block.occurred_at.isoformat() == "2026-03-29T04:30:00+02:00"
    rows = "at,text\n10/24/2026 12:30 PM,a\n10/26/2026 12:30 AM,b\n3/30/2026 9:05 PM,c\n"
    mapping = {"content": "text", "occurred_at": "at", "date_format": "%m/%d/%Y %I:%M %p"}
    path = write(tmp_path, {"weeks.csv": rows})
    found = blocks(items(path, ImportOptions(mapping=mapping, time_zone=berlin)))
    assert [block.occurred_at.isoformat() for block in found if block.occurred_at] == [
        "2026-10-24T12:30:00+02:00",
        "2026-10-26T00:30:00+01:00",
        "2026-03-30T21:05:00+02:00",
    ]


def test_notes_with_front_matter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "vault",
        {
            "boats/oak.md": (
                "---\ntitle: Oak\ndate: 2026-03-02\ntags: [wood, hull]\n---\n# Oak\nIs hard.\n"
            ),
            "plain.md": "No front matter\n---\nreally",
            "bad.md": "---\ntitle: [\n---\nx",
            "empty.md": "---\ntitle: x\n---\n",
        },
    )
    found = items(path)
    assert detected(path) == "markdown"
    assert reasons(found) == ["malformed", "empty"]
    oak, plain = sorted(blocks(found), key=lambda block: block.content)
    assert oak.content == "# Oak\nIs hard."
    assert oak.metadata == {"title": "Oak", "path": "boats/oak.md", "tags": ["wood", "hull"]}
    assert oak.occurred_at == datetime(2026, 3, 2, tzinfo=UTC)
    assert oak.session_id == "boats"
    assert plain.content == "No front matter\n---\nreally"


def test_dates_that_front_matter_writes_as_numbers(tmp_path: Path) -> None:
    dates = ["20260305", "2026", "1772701200", "2026-03-05 14:30"]
    notes = {f"{n}.md": f"---\ndate: {date}\n---\nx\n" for n, date in enumerate(dates)}
    found = blocks(items(write(tmp_path, notes)))
    assert [block.occurred_at and block.occurred_at.isoformat() for block in found] == [
        "2026-03-05T00:00:00+00:00",
        None,
        "2026-03-05T09:00:00+00:00",
        "2026-03-05T14:30:00+00:00",
    ]


@pytest.mark.parametrize("content", ["just words\n", "[1, 2]", '{"a": 1}', b"\x00\xff\x00"])
def test_an_unrecognized_file_is_reported(tmp_path: Path, content: object) -> None:
    path = write(tmp_path, {"thing.txt": content})
    with pytest.raises(UnknownFormat, match="--format"):
        detected(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no file"):
        detected(tmp_path / "nothing.json")


def test_an_archive_that_claims_too_much_is_not_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb", {"conversations.json": b" " * (80 << 20)}, zipped=True)
    with pytest.raises(Invalid, match="claims to unpack"):
        items(path, format_="chatgpt")
