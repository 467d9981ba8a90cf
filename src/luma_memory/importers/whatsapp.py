"""WhatsApp's chat export: one text file per chat, with dates in the phone's format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from luma_memory.importers.documents import Bundle, Document, bounded_lines
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
# Few, so that a line of nothing else takes no time.
_MARKS: Final = "[\u200e\u200f\u202a-\u202e\u2066-\u2069]{0,3}"  # of the direction of a text
_GAP: Final = r"[\s\u202f\u00a0]{0,3}"
# Halves of the day in the languages whose phones write them, before the time or behind it.
_AFTERNOON: Final = (
    *("pm", "下午", "中午", "晚上", "오후", "午後"),
    *("μμ", "ös", "م", "ch", "ptg", "بظ"),
)
_HALF: Final = (
    r"[ap]\.?[\s\u202f\u00a0]?m\.?|上午|凌晨|清晨|早上|下午|中午|晚上|오전|오후|午前|午後"
    r"|[πμ]\.?\s?μ\.?|ö[ös]|[صم]|sa|ch|pt?g|[قب]\.?\s?ظ\.?"
)
# 06/03/2017, 00:45 - Name: text · [6/3/17, 12:45:10 PM] Name: text · 2017-03-06 00:45 - …
# Some phones write direction marks and narrow spaces around them.
START: Final = re.compile(
    rf"^{_MARKS}\[?{_MARKS}(?P<a>\d{{1,4}}){_MARKS}(?P<sign>[./-])\s?{_MARKS}(?P<b>\d{{1,2}})"
    rf"{_MARKS}[./-]\s?{_MARKS}(?P<c>\d{{1,4}})\.?{_MARKS}[,،]?\s{{1,3}}(?:kl\.?\s|um\s|às\s|à\s)?"
    rf"{_MARKS}(?P<before>{_HALF})?{_GAP}"
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
    rf"(?:{_GAP}{_MARKS}(?P<after>{_HALF}))?{_MARKS}(?:\]|\s-)\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_MESSAGE: Final = re.compile(
    r"^[\u200e\u200f]*(?P<speaker>[^:\n]{1,100}?):(?:\s(?P<text>.*))?$", re.DOTALL
)
_QUOTE: Final = re.compile('["“”„«»]')
_MEDIA: Final = re.compile(
    r"^[\u200e\u200f<]*(?:media omitted|medien ausgeschlossen|multimedia omitido|médias? omis|"
    r"media weggelaten|media omessi|mídia oculta|arquivo de mídia oculto|"
    r"(?:image|video|audio|sticker|gif|document|photo|contact card|bild|videonachricht|imagen"
    r"|vidéo|immagine|afbeelding|imagem|vídeo|áudio|figurinha|documento)\s+"
    r"(?:omitted|weggelassen|omitida|omitido|absente?|omess[ao]|weggelaten|ocultad[ao]))[>.]*$"
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
    r"hai eliminato questo messaggio|dit bericht is verwijderd|mensagem apagada|"
    r"esta mensagem foi apagada|você apagou esta mensagem)\.?$",
    re.IGNORECASE,
)
_EDITED: Final = re.compile(
    r"<(?:this message was edited|diese nachricht wurde bearbeitet|"
    r"se editó este mensaje|ce message a été modifié|questo messaggio è stato modificato|"
    r"dit bericht is bewerkt|mensagem editada|esta mensagem foi editada)>$",
    re.IGNORECASE,
)
# Longer texts are none of the notices above.
_NOTICE_CHARACTERS_MAX: Final = 300
# No message is longer; without it a file of other lines would be one message.
_MESSAGE_CHARACTERS_MAX: Final = 2_000_000
# WhatsApp began in 2009: dates before that, or to come, were read in the wrong order.
_FIRST_DAY: Final = date(2009, 1, 1)
_CHAT_NAME: Final = re.compile(
    r"^(?:whatsapp[ -]chat (?:with|mit|con|avec|met|com)|chat de whatsapp con|"
    r"discussion whatsapp avec|whatsapp chat -)\s+",
    re.IGNORECASE,
)
# "WhatsApp Chat with Bo (1).txt": the same chat, downloaded again.
_COPY: Final = re.compile(r"\s*\(\d{1,3}\)$")


@dataclass(slots=True)
class _Entry:
    line: int
    head: re.Match[str]
    lines: list[str] = field(default_factory=list)
    characters: int = 0


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The messages of each chat, in order. Times are the phone's, in `options.time_zone`.

    Raises NeedsChoice if the file does not prove the order of its dates.
    """
    for document in bundle.ending(".txt") or bundle.documents:
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        order = options.date_order or decide_order(
            _dates(document), possible=(_FIRST_DAY, tomorrow)
        )
        yield from _chat(document, bundle.title, order, options.time_zone)


def _dates(document: Document) -> Iterator[WrittenDate]:
    with document.text(counted=False) as lines:
        for _, line in bounded_lines(lines):
            if line is not None and (match := START.match(line)):
                yield match["a"], match["b"], match["c"], match["sign"]


def _chat(document: Document, title: str, order: DateOrder, zone: tzinfo) -> Iterator[Item]:
    named = _COPY.sub("", title if document.stem == "_chat" else document.stem)
    chat = _CHAT_NAME.sub("", named)
    ids = ContentIds(SOURCE)
    before: datetime | None = None
    for entry in _entries(document):
        if isinstance(entry, SkippedItem):
            yield entry
            continue
        where = f"{document.name}: line {entry.line}"
        day = to_date((entry.head["a"], entry.head["b"], entry.head["c"]), order)
        clock = _time(entry.head)
        if day is None or clock is None:
            yield SkippedItem(where, "malformed", "a date or time that does not exist")
            continue
        moment = _localized(datetime.combine(day, clock), zone, before)
        if before is not None and moment.date() != before.date():
            ids.forget()
        before = moment
        yield from _message(entry, moment, chat, ids, where)


def _entries(document: Document) -> Iterator[_Entry | SkippedItem]:
    """Each message with its continuation lines."""
    entry: _Entry | None = None
    has_begun = False
    with document.text() as lines:
        for number, line in bounded_lines(lines):
            where = f"{document.name}: line {number}"
            if line is None:
                yield SkippedItem(where, "too_long", "a line of more than four million characters")
                continue
            text = line.rstrip("\n")
            match = START.match(text)
            if match is not None:
                if entry is not None:
                    yield entry
                entry, has_begun = _Entry(number, match, [match["rest"]]), True
            elif entry is not None:
                entry.lines.append(text)
                entry.characters += len(text)
                if entry.characters > _MESSAGE_CHARACTERS_MAX:
                    yield SkippedItem(where, "too_long", "a message of too many lines")
                    entry = None
            elif not has_begun and text.strip():
                has_begun = True  # reported once
                yield SkippedItem(where, "malformed", "lines before the first message")
    if entry is not None:
        yield entry


def _time(head: re.Match[str]) -> time | None:
    hour = int(head["hour"])
    if half := head["before"] or head["after"]:
        if hour > 12:
            return None
        hour = hour % 12 + (12 if _is_afternoon(half) else 0)
    try:
        return time(hour, int(head["minute"]), int(head["second"] or 0))
    except ValueError:
        return None


def _is_afternoon(half: str) -> bool:
    return re.sub(r"[\s.\u202f\u00a0]", "", half).casefold() in _AFTERNOON


def _localized(moment: datetime, zone: tzinfo, before: datetime | None) -> datetime:
    """In the zone; if an hour occurs twice, the occurrence that keeps the order."""
    local = moment.replace(tzinfo=zone)
    later = local.replace(fold=1)
    if before is None or local.utcoffset() == later.utcoffset():
        return local
    # In UTC: times of one zone are compared as they are written, whichever occurrence they are.
    is_back = local.astimezone(UTC) < before.astimezone(UTC) - timedelta(minutes=1)
    return later if is_back else local


def _message(
    entry: _Entry, moment: datetime, chat: str, ids: ContentIds, where: str
) -> Iterator[Item]:
    message = _MESSAGE.match("\n".join(entry.lines))
    # A colon in quotation marks is that of a group's new name.
    if message is None or len(_QUOTE.findall(message["speaker"])) % 2:
        yield SkippedItem(where, "system_message")
        return
    speaker = name(message["speaker"].strip("\u200e\u200f ~\u202f\u00a0"))
    text = (message["text"] or "").strip("\u200e\u200f \n")
    stripped = text[:-_NOTICE_CHARACTERS_MAX] + _EDITED.sub("", text[-_NOTICE_CHARACTERS_MAX:])
    if stripped != text:
        stripped = stripped.rstrip("\u200e\u200f \n")
    reason = _why_not(stripped)
    if reason is not None:
        yield SkippedItem(where, reason)
        return
    # In another chat, the same person may write the same in the same minute.
    external_id = ids.of(chat, moment.replace(tzinfo=None).isoformat(), speaker, text)
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
    if len(text) > _NOTICE_CHARACTERS_MAX:
        return None
    if _MEDIA.match(text):
        return "media"
    return "deleted" if _DELETED.match(text) else None
