"""Slack's export: names, threads, marks, edits, deletions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.support.exports import blocks, detected, items, reasons, skipped, write

USERS = [
    {"id": "U1", "name": "ada", "profile": {"real_name": "Ada Berg"}},
    {"id": "U2", "name": "bo", "profile": {"display_name": "Bo"}},
]
MESSAGES = [
    {
        "type": "message",
        "user": "U1",
        "ts": "1772442000.000100",
        "text": "Hi <@U2>, see <https://example.org|the plan> in <#C9|yard> &amp; reply <!here>",
    },
    {
        "type": "message",
        "user": "U2",
        "ts": "1772442060.000200",
        "thread_ts": "1772442000.000100",
        "text": "Done",
        "edited": {"user": "U2", "ts": "1772442070.0"},
    },
    {
        "type": "message",
        "subtype": "channel_join",
        "user": "U2",
        "ts": "1772442001.0",
        "text": "joined",
    },
    {
        "type": "message",
        "subtype": "bot_message",
        "bot_id": "B1",
        "ts": "1772442002.0",
        "text": "deploy ok",
    },
    {
        "type": "message",
        "subtype": "tombstone",
        "ts": "1772442003.0",
        "text": "This message was deleted.",
    },
    {
        "type": "message",
        "subtype": "message_deleted",
        "ts": "1772442003.5",
    },
    {
        "type": "message",
        "user": "U1",
        "ts": "1772442004.0",
        "text": "",
        "files": [{"name": "a.png"}],
    },
    {
        "type": "message",
        "user": "U1",
        "ts": "1772442005.0",
        "text": "",
        "files": [{"name": "a.txt", "plain_text": "cut list"}],
    },
    {"type": "message", "user": "U7", "ts": "not a time", "text": "?"},
]


def test_messages_by_person_thread_and_day(tmp_path: Path) -> None:
    path = write(
        tmp_path / "workspace",
        {
            "users.json": USERS,
            "channels.json": [{"id": "C1", "name": "yard"}],
            "yard/2026-03-02.json": MESSAGES,
        },
        zipped=True,
    )
    found = items(path)
    assert detected(path) == "slack"
    first, reply, file = blocks(found)
    assert first.content == "Hi @Bo, see the plan (https://example.org) in #yard & reply @here"
    assert (first.speaker, first.session_id) == ("Ada Berg", "yard/2026-03-02")
    assert first.external_id == "slack:C1:1772442000.000100"
    assert first.occurred_at == datetime(2026, 3, 2, 9, 0, 0, 100, UTC)
    assert (reply.speaker, reply.session_id) == ("Bo", "yard/1772442000.000100")
    assert reply.metadata == {"channel": "yard", "edited": True}
    assert file.content == "cut list"
    assert sorted(reasons(found)) == ["bot", "deleted", "deleted", "event", "malformed", "media"]


def test_a_damaged_list_of_people_is_reported(tmp_path: Path) -> None:
    files = {"users.json": '[{"id": "U1"', "yard/2026-03-02.json": MESSAGES[:1]}
    found = items(write(tmp_path / "workspace", files))
    assert [block.speaker for block in blocks(found)] == ["U1"]
    assert skipped(found) == [("malformed", "users.json")]
