"""Transcripts as subtitles: SRT and WebVTT."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from luma_memory.importers.documents import Bundle, Document, bounded_lines
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, name, parts

SOURCE: Final = "transcript"
TIMING: Final = re.compile(
    r"^\s*(?:(?P<h>\d{1,3}):)?(?P<m>\d{1,2}):(?P<s>\d{2})[.,](?P<ms>\d{3})\s+-->\s+[\d:.,]+"
)
_VOICE: Final = re.compile(r"<v(?:\.[\w.]{1,100})?\s{1,9}(?P<speaker>[^>\s][^>]{0,300})>")
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
# A block ends if the speaker changes, after a longer pause, or at the end of a sentence after this.
_PAUSE: Final = timedelta(seconds=8)
_CHARACTERS: Final = 400
_SENTENCE_END: Final = re.compile(r"[.!?…。！？]['\"»”)]?$")


@dataclass(frozen=True, slots=True)
class _Cue:
    line: int
    starts: timedelta
    speaker: str | None
    text: str


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The spoken text; consecutive cues of one speaker are joined up to the end of a sentence.

    occurred_at is `options.starts_at` plus the cue's time; without it there is no time.
    """
    for document in bundle.ending(".srt", ".vtt") or bundle.documents:
        ids = ContentIds(SOURCE)
        group: list[_Cue] = []
        for cue in _cues(document):
            if isinstance(cue, SkippedItem):
                yield cue
            elif group and _is_next_block(group, cue):
                yield from _block(group, document, options.starts_at, ids)
                group = [cue]
            else:
                group.append(cue)
        if group:
            yield from _block(group, document, options.starts_at, ids)


def _is_next_block(group: list[_Cue], cue: _Cue) -> bool:
    last = group[-1]
    if cue.speaker != last.speaker or cue.starts - last.starts > _PAUSE * 2:
        return True
    length = sum(len(member.text) for member in group)
    return length >= _CHARACTERS and bool(_SENTENCE_END.search(last.text))


def _cues(document: Document) -> Iterator[_Cue | SkippedItem]:
    starts: timedelta | None = None
    at = 0
    lines: list[str] = []
    with document.text() as text:
        for number, raw in bounded_lines(text):
            if raw is None:
                yield SkippedItem(f"{document.name}: line {number}", "too_long")
                continue
            line = raw.rstrip("\n")
            timing = TIMING.match(line)
            if timing is None and line.strip():
                lines.append(line)
                continue
            if starts is not None and lines:
                # Without a blank line, the line before a timing is the number of the next cue.
                shown = lines[:-1] if timing and lines[-1].strip().isdigit() else lines
                yield from _spoken(at, starts, shown, document)
            elif starts is None and (damaged := [entry for entry in lines if "-->" in entry]):
                where = f"{document.name}: line {number}"
                yield SkippedItem(where, "malformed", f"before it: {damaged[0][:60]!r}")
            lines = []
            starts = _offset(timing) if timing else None
            at = number
    if starts is not None and lines:
        yield from _spoken(at, starts, lines, document)


def _spoken(
    line: int, starts: timedelta, lines: list[str], document: Document
) -> Iterator[_Cue | SkippedItem]:
    """What each voice of a cue says: two may speak at once."""
    # Before the first voice, then a name and what follows it, and so on.
    first, *rest = _VOICE.split("\n".join(lines))
    is_silent = True
    for voice, written in [(None, first), *zip(rest[::2], rest[1::2], strict=True)]:
        entries = (html.unescape(_TAG.sub("", entry)).strip() for entry in written.split("\n"))
        if text := " ".join(entry for entry in entries if entry):
            is_silent = False
            yield _Cue(line, starts, name(voice), text)
    if is_silent:
        yield SkippedItem(f"{document.name}: line {line}", "empty")


def _offset(timing: re.Match[str]) -> timedelta:
    return timedelta(
        hours=int(timing["h"] or 0),
        minutes=int(timing["m"]),
        seconds=int(timing["s"]),
        milliseconds=int(timing["ms"]),
    )


def _block(
    group: list[_Cue], document: Document, starts_at: datetime | None, ids: ContentIds
) -> Iterator[Item]:
    first = group[0]
    text = " ".join(cue.text for cue in group)
    external_id = ids.of(document.stem, first.starts, text)
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=external_id + suffix,
            content=piece,
            source=SOURCE,
            occurred_at=_later(starts_at, first.starts),
            speaker=first.speaker,
            session_id=name(document.stem),
            metadata={"at": str(first.starts).partition(".")[0]},
        )


def _later(starts_at: datetime | None, offset: timedelta) -> datetime | None:
    """In UTC, where clocks that are set forward or back do not change what is added."""
    if starts_at is None:
        return None
    return (starts_at.astimezone(UTC) + offset).astimezone(starts_at.tzinfo)
