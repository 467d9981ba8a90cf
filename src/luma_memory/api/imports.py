"""Exports of other systems, uploaded: kept in a file while they are read, reported line by line."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from fastapi import Request

from luma_memory.api.batches import store_each
from luma_memory.bootstrap.private_files import open_private
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.importers.assignment import Assignment, Group, groups
from luma_memory.importers.documents import open_bundle
from luma_memory.importers.formats import FORMATS, detect, read_items
from luma_memory.importers.records import ImportOptions

# `auto` recognizes them by content, or takes `mapped` where there is a mapping.
ImportFormat = Literal[
    "auto", "chatgpt", "claude", "mem0", "graphiti", "letta", "slack", "whatsapp",
    "openai-jsonl", "transcript", "markdown", "mapped",
]  # fmt: skip
_GROUP_BLOCKS: Final = 500
_UNNAMED: Final = "upload"
_NAME_CHARACTERS_MAX: Final = 100
_SAMPLES: Final = 3
_SAMPLE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How to read an upload, and whose its blocks are. is_dry_run: count, and store nothing."""

    read: ImportOptions
    assignment: Assignment
    is_dry_run: bool = False


@dataclass(slots=True)
class _Tally:
    found: int = 0
    stored: int = 0
    refused: int = 0
    without_time: int = 0
    earliest: datetime | None = None
    latest: datetime | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def take(self, group: Group) -> None:
        self.found += len(group.bodies)
        for body in group.bodies[: _SAMPLES - len(self.samples)]:
            short = {"content": body["content"][:_SAMPLE_CHARACTERS]}
            named = ("user_id", "speaker", "session_id", "occurred_at")
            self.samples.append({name: body.get(name) for name in named} | short)
        self.skipped.update(item.reason for item in group.skipped)
        times = [block.occurred_at for block in group.blocks if block.occurred_at is not None]
        self.without_time += len(group.blocks) - len(times)
        if times:
            self.earliest = min(times + ([self.earliest] if self.earliest else []))
            self.latest = max(times + ([self.latest] if self.latest else []))


class Upload:
    """An uploaded export in a temporary folder of its own, which `close` removes."""

    def __init__(self, file_name: str | None) -> None:
        self._stack = ExitStack()
        made = tempfile.TemporaryDirectory(prefix="luma-memory-import-")
        self.path = Path(self._stack.enter_context(made)) / _safe(file_name)

    def close(self) -> None:
        """Idempotent."""
        self._stack.close()

    async def fill(self, request: Request) -> None:
        """Write the request's body, piece by piece."""
        with open(self.path, "wb", opener=open_private) as file:  # noqa: ASYNC230 - as `Path.open`
            async for piece in request.stream():
                await asyncio.to_thread(file.write, piece)

    def read(self, format_: ImportFormat, options: UploadOptions) -> Iterator[tuple[str, Group]]:
        """The format's name with each group. Raises Invalid, also between groups."""
        with open_bundle(self.path) as bundle:
            found = detect(bundle, options.read) if format_ == "auto" else FORMATS[format_]
            items = read_items(found, bundle, options.read)
            yield found.name, Group()  # an unknown format is an error before the response
            for group in groups(
                items, options.assignment, title=self.path.name, count_max=_GROUP_BLOCKS
            ):
                yield found.name, group


async def import_lines(
    service: Service,
    caller: Caller,
    upload: Upload,
    found: Iterator[tuple[str, Group]],
    *,
    is_dry_run: bool,
) -> AsyncGenerator[bytes]:
    """Lines of the report, as blocks are stored; the last one is of kind `end` or `error`.

    Closes the upload. Blocks that were stored stay when the request ends early: importing again
    continues.
    """
    tally, name = _Tally(), ""
    try:
        while (read := await asyncio.to_thread(next, found, None)) is not None:
            name, group = read
            tally.take(group)
            yield b"".join(
                _line("skipped", where=item.where, reason=item.reason, detail=item.detail)
                for item in group.skipped
            )
            bodies = [] if is_dry_run else group.bodies
            for item in await store_each(service, caller, bodies):
                if item.error is None:
                    tally.stored += 1
                    continue
                tally.refused += 1
                yield _line(
                    "refused",
                    external_id=group.bodies[item.index]["external_id"],
                    code=item.error.code,
                    detail=f"{item.error.field or ''} {item.error.detail}".strip(),
                )
            yield _line("progress", found=tally.found, stored=tally.stored, refused=tally.refused)
        yield _line(
            "end",
            format=name,
            found=tally.found,
            samples=tally.samples,
            stored=tally.stored,
            refused=tally.refused,
            skipped=dict(tally.skipped),
            without_time=tally.without_time,
            earliest=tally.earliest.isoformat() if tally.earliest else None,
            latest=tally.latest.isoformat() if tally.latest else None,
        )
    except LumaMemoryError as error:
        yield _line("error", code=error.code, detail=str(error))
    finally:
        upload.close()


def _line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, **fields}, ensure_ascii=False).encode() + b"\n"


def _safe(file_name: str | None) -> str:
    """A name for the file in its folder: its ending distinguishes transcripts and notes."""
    name = re.sub(r"[^\w.\- ]", "_", Path(file_name or _UNNAMED).name, flags=re.ASCII)
    name = name[-_NAME_CHARACTERS_MAX:]
    return name if name.strip(". ") else _UNNAMED
