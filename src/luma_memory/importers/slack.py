"""Slack's workspace export: `users.json`, `channels.json`, `CHANNEL/DATE.json`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import ijson

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.json_streams import json_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import as_list, as_mapping, epoch, name, parts

SOURCE: Final = "slack"
_DAY: Final = re.compile(r"(?:^|/)(?P<channel>[^/]+)/\d{4}-\d{2}-\d{2}\.json$")
# Messages with a subtype that a person wrote; all others are events.
_WRITTEN: Final = (None, "file_share", "thread_broadcast", "me_message", "file_comment")
_MARK: Final = re.compile(r"<(?P<kind>[@#!]?)(?P<target>[^|<>]*)(?:\|(?P<label>[^<>]*))?>")


def day_files(bundle: Bundle) -> list[tuple[str, Document]]:
    """The channels' files, of each channel in order of the days."""
    found = [
        (match["channel"], document)
        for document in bundle.documents
        if (match := _DAY.search(document.name))
    ]
    return sorted(found, key=lambda entry: entry[1].name)


def read(bundle: Bundle, _options: ImportOptions) -> Iterator[Item]:
    """What people wrote, by channel and day; a thread is a session of its own."""
    damaged: list[SkippedItem] = []
    people = _people(bundle, damaged)
    channels = _channel_ids(bundle, damaged)
    yield from damaged
    for channel, document in day_files(bundle):
        number = 0
        with document.bytes() as stream:
            try:
                for number, value in enumerate(json_items(stream, "item"), 1):
                    where = f"{document.name}: {number}"
                    message = as_mapping(value)
                    yield from _message(message, channel, channels, people, where)
            except ijson.JSONError as error:
                yield SkippedItem(f"{document.name}: after {number}", "malformed", problem(error))


def _people(bundle: Bundle, damaged: list[SkippedItem]) -> Mapping[str, str]:
    """Names by user id: the real name, else the display name."""
    people: dict[str, str] = {}
    for value in _list(bundle, "users.json", damaged):
        profile = as_mapping(value.get("profile"))
        shown = (
            name(profile.get("real_name"))
            or name(value.get("real_name"))
            or name(profile.get("display_name"))
            or name(value.get("name"))
        )
        if isinstance(value.get("id"), str) and shown:
            people[value["id"]] = shown
    return people


def _channel_ids(bundle: Bundle, damaged: list[SkippedItem]) -> Mapping[str, str]:
    files = ("channels.json", "groups.json", "mpims.json", "dms.json")
    return {
        str(value.get("name") or value.get("id")): str(value["id"])
        for file in files
        for value in _list(bundle, file, damaged)
        if isinstance(value.get("id"), str)
    }


def _list(bundle: Bundle, file: str, damaged: list[SkippedItem]) -> Iterator[Mapping[str, Any]]:
    for document in bundle.named(file):
        with document.bytes() as stream:
            try:
                for value in json_items(stream, "item"):
                    yield as_mapping(value)
            except ijson.JSONError as error:
                damaged.append(SkippedItem(document.name, "malformed", problem(error)))


def _message(
    message: Mapping[str, Any],
    channel: str,
    channels: Mapping[str, str],
    people: Mapping[str, str],
    where: str,
) -> Iterator[Item]:
    moment = epoch(message.get("ts"))
    if message.get("type") != "message" or moment is None:
        yield SkippedItem(where, "malformed", "no message with a time")
        return
    reason = _why_not(message)
    text = _text(message, people)
    if reason is None and not text.strip():
        reason = "media" if message.get("files") else "empty"
    if reason is not None:
        yield SkippedItem(where, reason)
        return
    user = str(message.get("user") or "")
    thread = message.get("thread_ts")
    channel_id = channels.get(channel, channel)
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=f"{SOURCE}:{channel_id}:{message['ts']}{suffix}",
            content=piece,
            source=SOURCE,
            occurred_at=moment,
            speaker=people.get(user) or name(_profile_name(message)) or name(user),
            session_id=name(f"{channel}/{thread}" if thread else f"{channel}/{moment.date()}"),
            metadata={"channel": channel} | ({"edited": True} if message.get("edited") else {}),
        )


def _why_not(message: Mapping[str, Any]) -> str | None:
    subtype = message.get("subtype")
    if subtype in ("tombstone", "message_deleted") or message.get("hidden"):
        return "deleted"
    if subtype == "bot_message" or message.get("bot_id"):
        return "bot"
    return None if subtype in _WRITTEN else "event"


def _profile_name(message: Mapping[str, Any]) -> object:
    return as_mapping(message.get("user_profile")).get("real_name")


def _text(message: Mapping[str, Any], people: Mapping[str, str]) -> str:
    texts = [str(message.get("text") or "")]
    for attached in as_list(message.get("attachments")):
        attachment = as_mapping(attached)
        texts.append(str(attachment.get("text") or attachment.get("fallback") or ""))
    for shared in as_list(message.get("files")):
        preview = as_mapping(shared).get("plain_text")
        texts.append(preview if isinstance(preview, str) else "")
    return "\n\n".join(_plain(text, people) for text in texts if text.strip())


def _plain(text: str, people: Mapping[str, str]) -> str:
    """Replace Slack's markup: <@U1> is a name, <url|label> a label with its address."""

    def replaced(match: re.Match[str]) -> str:
        kind, target, label = match["kind"], match["target"], match["label"]
        if kind == "@":
            return f"@{label or people.get(target, target)}"
        if kind == "#":
            return f"#{label or target}"
        if kind == "!":
            return f"@{label or target.partition('^')[0]}"
        return f"{label} ({target})" if label and label != target else target

    return html.unescape(_MARK.sub(replaced, text))
