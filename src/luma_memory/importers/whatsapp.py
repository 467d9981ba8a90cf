"""WhatsApp's chat export: one text file per chat, with dates in the phone's format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo
from typing import Final

from luma_memory.importers.documents import Bundle, Document
from luma_memory.importers.numeric_dates import WrittenDate, decide_order, to_date
from luma_memory.importers.records import (
    DateOrder,
    ImportedBlock,
    ImportOptions,
    Item,
    SkippedItem,
)
from luma_memory.importers.texts import ContentIds, name, parts

SOURCE: Final = "whatsapp"
# 06/03/2017, 00:45 - Name: text · [6/3/17, 12:45:10 PM] Name: text · 2017-03-06 00:45 - …
# Some phones write direction marks and narrow spaces around them.
START: Final = re.compile(
    r"^[\u200e\u200f\u202a-\u202e]*\[?(?P<a>\d{1,4})(?P<sign>[./-])\s?(?P<b>\d{1,2})[./-]\s?(?P<c>\d{1,4})\.?,?\s+"
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
    r"(?:[\s\u202f\u00a0]*(?P<half>[ap])\.?[\s\u202f\u00a0]?m\.?)?(?:\]|\s-)\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_MESSAGE: Final = re.compile(
    r"^[\u200e\u200f]*(?P<speaker>[^:]{1,100}?):(?:\s(?P<text>.*))?$", re.DOTALL
)
_MEDIA: Final = re.compile(
    r"^[\u200e\u200f<]*(?:media omitted|medien ausgeschlossen|multimedia omitido|médias? omis|"
    r"media weggelaten|media omessi|mídia oculta|arquivo de mídia oculto|"
    r"(?:image|video|audio|sticker|gif|document|photo|contact card|bild|videonachricht|imagen"
    r"|vidéo)\s+(?:omitted|weggelassen|omitida|omitido|absente?))[>.]*$"
    r"|^[\u200e\u200f]*<(?:attached|angehängt|adjunto|pièce jointe|bijgevoegd|allegato|anexado)"
    r": ?[^>]*>$"
    r"|^[\u200e\u200f]*\S+\.(?:jpg|jpeg|png|mp4|opus|webp|pdf|vcf|3gp|m4a) "
    r"\((?:file attached|datei angehängt|archivo adjunto|fichier joint)\)$",
    re.IGNORECASE,
)
_DELETED: Final = re.compile(
    r"^[\u200e\u200f]*(?:this message was deleted|you deleted this message|null|"
    r"diese nachricht wurde gelöscht|du hast diese nachricht gelöscht|"
    r"se eliminó este mensaje|eliminaste este mensaje|ce message a été supprimé|"
    r"vous avez supprimé ce message|questo messaggio è stato eliminato|"
    r"dit bericht is verwijderd|mensagem apagada|esta mensagem foi apagada)\.?$",
    re.IGNORECASE,
)
_EDITED: Final = re.compile(
    r"\s*[\u200e\u200f]*<(?:this message was edited|diese nachricht wurde bearbeitet|"
    r"se editó este mensaje|ce message a été modifié)>\s*$",
    re.IGNORECASE,
)
_CHAT_NAME: Final = re.compile(
    r"^(?:whatsapp[ -]chat (?:with|mit|con|avec|met|com)|chat de whatsapp con|"
    r"discussion whatsapp avec|whatsapp chat -)\s+",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Entry:
    line: int
    head: re.Match[str]
    lines: list[str] = field(default_factory=list)


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The messages of each chat, in order. Times are the phone's, in `options.time_zone`.

    Raises NeedsChoice if the file does not prove the order of its dates.
    """
    for document in bundle.ending(".txt") or bundle.documents:
        order = options.date_order or decide_order(_dates(document))
        yield from _chat(document, bundle.title, order, options.time_zone)


def _dates(document: Document) -> Iterator[WrittenDate]:
    with document.text(counted=False) as lines:
        for line in lines:
            if match := START.match(line):
                yield match["a"], match["b"], match["c"], match["sign"]


def _chat(document: Document, title: str, order: DateOrder, zone: tzinfo) -> Iterator[Item]:
    chat = _CHAT_NAME.sub("", title if document.stem == "_chat" else document.stem)
    ids = ContentIds(SOURCE)
    before: datetime | None = None
    for entry in _entries(document):
        where = f"{document.name}: line {entry.line}"
        day = to_date((entry.head["a"], entry.head["b"], entry.head["c"]), order)
        clock = _time(entry.head)
        if day is None or clock is None:
            yield SkippedItem(where, "malformed", "a date or time that does not exist")
            continue
        moment = _localized(datetime.combine(day, clock), zone, before)
        before = moment
        yield from _message(entry, moment, chat, ids, where)


def _entries(document: Document) -> Iterator[_Entry]:
    """Each message with its continuation lines."""
    entry: _Entry | None = None
    with document.text() as lines:
        for number, line in enumerate(lines, 1):
            match = START.match(line.rstrip("\n"))
            if match is None:
                if entry is not None:
                    entry.lines.append(line.rstrip("\n"))
                continue
            if entry is not None:
                yield entry
            entry = _Entry(number, match, [match["rest"]])
    if entry is not None:
        yield entry


def _time(head: re.Match[str]) -> time | None:
    hour = int(head["hour"])
    if head["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if head["half"].lower() == "p" else 0)
    try:
        return time(hour, int(head["minute"]), int(head["second"] or 0))
    except ValueError:
        return None


def _localized(moment: datetime, zone: tzinfo, before: datetime | None) -> datetime:
    """In the zone; if an hour occurs twice, the occurrence that keeps the order."""
    local = moment.replace(tzinfo=zone)
    later = local.replace(fold=1)
    is_repeated = local.utcoffset() != later.utcoffset()
    if is_repeated and before is not None and local < before - timedelta(minutes=1):
        return later
    return local


def _message(
    entry: _Entry, moment: datetime, chat: str, ids: ContentIds, where: str
) -> Iterator[Item]:
    message = _MESSAGE.match("\n".join(entry.lines))
    if message is None:
        yield SkippedItem(where, "system_message")
        return
    speaker = name(message["speaker"].strip("\u200e\u200f ~\u202f\u00a0"))
    text = (message["text"] or "").strip("\u200e\u200f \n")
    stripped = _EDITED.sub("", text)
    reason = _why_not(stripped)
    if reason is not None:
        yield SkippedItem(where, reason)
        return
    external_id = ids.of(moment.replace(tzinfo=None).isoformat(), speaker, text)
    for piece, suffix in parts(stripped):
        yield ImportedBlock(
            external_id=external_id + suffix,
            content=piece,
            source=SOURCE,
            occurred_at=moment,
            speaker=speaker,
            session_id=name(f"{chat} {moment.date()}"),
            metadata={"chat": chat} | ({"edited": True} if stripped != text else {}),
        )


def _why_not(text: str) -> str | None:
    if not text:
        return "empty"
    if _MEDIA.match(text):
        return "media"
    return "deleted" if _DELETED.match(text) else None
