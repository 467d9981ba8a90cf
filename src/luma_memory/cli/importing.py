"""`import`: store the exports of other systems."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from luma_memory.bootstrap.private_files import open_private
from luma_memory.cli.commands import examples
from luma_memory.cli.groups import store_group
from luma_memory.cli.options import Url, service_url
from luma_memory.cli.output import Bar, console, print_note, printable, progress, shortened
from luma_memory.cli.running import run_async
from luma_memory.cli.service import LONG_RETRIES, ServiceClient
from luma_memory.cli.waiting import failed_blocks, wait_until_enriched
from luma_memory.domain.errors import Invalid
from luma_memory.importers.assignment import Assignment, groups, parse_speakers
from luma_memory.importers.documents import Bundle, open_bundle
from luma_memory.importers.formats import FORMATS, detect, read_items
from luma_memory.importers.mapped import load_mapping
from luma_memory.importers.records import (
    DateOrder,
    ImportedBlock,
    ImportOptions,
    Item,
    SkippedItem,
)
from luma_memory.importers.texts import iso
from luma_memory.protocol.blocks import BATCH_BLOCKS_MAX
from luma_memory.settings import load_settings

_AUTO: Final = "auto"
_DATE_ORDERS: Final = ("dmy", "mdy", "ymd")
# One batch is read from the file while another is being sent.
_IN_FLIGHT_MAX: Final = 2
_SAMPLES: Final = 3

ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Where skipped items are listed as JSON lines; by default import-report.jsonl.",
    ),
]


@examples(
    "luma-memory import conversations.json --user ada",
    "luma-memory import chatgpt-export.zip --user ada --dry-run",
    'luma-memory import "WhatsApp Chat with Ann.txt" --user ada --map "Ann Example=ann"'
    " --time-zone Europe/Berlin",
    "luma-memory import notes.csv --user ada --mapping notes.toml",
)
def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Files, folders or zip archives of an export."),
    ],
    format_: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help=f"{_AUTO}, or one of {', '.join(FORMATS)}."),
    ] = _AUTO,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Your own id of the user the blocks go to."),
    ] = None,
    url: Url = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=USER",
            help="What a speaker of the source said goes to this user; may be repeated.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--mapping",
            metavar="FILE",
            help="TOML file that maps the fields of JSON or CSV to those of a block.",
        ),
    ] = None,
    date_order: Annotated[
        str | None,
        typer.Option("--date-order", metavar="ORDER", help="Of numeric dates: dmy, mdy or ymd."),
    ] = None,
    time_zone: Annotated[
        str,
        typer.Option("--time-zone", metavar="ZONE", help="Of times written without one."),
    ] = "UTC",
    starts_at: Annotated[
        str | None,
        typer.Option(
            "--starts-at", metavar="TIME", help="When a recording began (subtitles), ISO 8601."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and show samples; store nothing.")
    ] = False,
    report: ReportPath = None,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", min=1, max=BATCH_BLOCKS_MAX, help="Blocks a request."),
    ] = 500,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when all blocks are enriched.")
    ] = False,
) -> None:
    """Store exports of other systems: chats, memories, notes, transcripts.

    Times, speakers and sessions are taken from the source. Importing again changes nothing, and an
    interrupted import continues: every block carries the source's id. What can't be imported is
    listed in the report with its reason; the exit code is then still 0 unless the service refused
    a block, or with --wait the enrichment of one failed.
    """
    options = _options(mapping, date_order, time_zone, starts_at)
    _check_format(format_)
    assignment = Assignment(user, _speakers(map_ or []))
    tally = Tally(report or Path("import-report.jsonl"))
    with tally:
        if dry_run:
            _count(files, format_, options, assignment, tally)
        else:
            base_url = service_url(url, load_settings())
            run_async(
                _import(files, format_, options, assignment, tally, base_url, batch, wait=wait)
            )
        _say(tally, dry_run=dry_run)
    if tally.refused or tally.failed:
        raise typer.Exit(1)


def _check_format(name: str) -> None:
    if name != _AUTO and name not in FORMATS:
        choices = f"{_AUTO} or one of {', '.join(FORMATS)}"
        raise typer.BadParameter(f"must be {choices}", param_hint="--format")


@dataclass(slots=True)
class Tally:
    """Counts the outcomes of the items; skipped ones are also written to the report at once."""

    report_path: Path
    stored: int = 0
    refused: int = 0
    failed: int = 0  # whose enrichment failed, where that was waited for
    skipped: Counter[str] = field(default_factory=Counter)
    without_time: int = 0
    earliest: datetime | None = None
    latest: datetime | None = None
    users: Counter[str] = field(default_factory=Counter)
    formats: dict[str, None] = field(default_factory=dict)
    samples: list[ImportedBlock] = field(default_factory=list)
    seconds: float = 0.0
    _report: TextIO | None = None

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        if self._report is not None:
            self._report.close()

    def skip(self, item: SkippedItem, file: str) -> None:
        self.skipped[item.reason] += 1
        self._write(file=file, where=item.where, reason=item.reason, detail=item.detail)

    def refuse(self, block: Mapping[str, Any], code: str, detail: str) -> None:
        self.refused += 1
        self._write(where=str(block.get("external_id")), reason=f"refused: {code}", detail=detail)

    def take(self, block: ImportedBlock, user: str) -> None:
        """Count a block that is to be stored."""
        self.users[user] += 1
        if len(self.samples) < _SAMPLES:
            self.samples.append(block)
        if block.occurred_at is None:
            self.without_time += 1
            return
        self.earliest = min(self.earliest or block.occurred_at, block.occurred_at)
        self.latest = max(self.latest or block.occurred_at, block.occurred_at)

    def _write(self, **entry: str) -> None:
        if self._report is None:
            # Readable by its owner only: it quotes the source's ids and describes the export.
            self._report = open(  # noqa: SIM115 - closed with the import
                self.report_path, "w", encoding="utf-8", opener=open_private
            )
        print(json.dumps(entry, ensure_ascii=False), file=self._report)


def _options(
    mapping: Path | None, date_order: str | None, time_zone: str, starts_at: str | None
) -> ImportOptions:
    if date_order is not None and date_order not in _DATE_ORDERS:
        raise typer.BadParameter(
            f"must be one of {', '.join(_DATE_ORDERS)}", param_hint="--date-order"
        )
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise typer.BadParameter(
            "must be a time zone's name such as Europe/Berlin", param_hint="--time-zone"
        ) from error
    began = iso(starts_at, zone)
    if starts_at is not None and began is None:
        raise typer.BadParameter("must be an ISO 8601 time", param_hint="--starts-at")
    order: DateOrder | None = date_order  # type: ignore[assignment]
    return ImportOptions(order, zone, began, load_mapping(mapping) if mapping else None)


def _speakers(entries: Sequence[str]) -> Mapping[str, str]:
    try:
        return parse_speakers(entries)
    except Invalid as error:
        raise typer.BadParameter(printable(str(error)), param_hint="--map") from error


def _count(
    files: Sequence[Path],
    format_: str,
    options: ImportOptions,
    assignment: Assignment,
    tally: Tally,
) -> None:
    with progress("bytes read", _size_bytes(files)) as bar:
        for _ in _groups(files, format_, options, assignment, tally, bar, BATCH_BLOCKS_MAX):
            pass


def _groups(
    files: Sequence[Path],
    format_: str,
    options: ImportOptions,
    assignment: Assignment,
    tally: Tally,
    bar: Bar,
    count_max: int,
) -> Iterator[list[dict[str, Any]]]:
    """The bodies to send; all other items are counted in the tally."""
    for path in files:
        with ExitStack() as stack:
            bundle = stack.enter_context(open_bundle(path, bar.advance))
            items = _items(bundle, format_, options, tally)
            for group in groups(items, assignment, title=path.name, count_max=count_max):
                for item in group.skipped:
                    tally.skip(item, path.name)
                for block, body in zip(group.blocks, group.bodies, strict=True):
                    tally.take(block, body["user_id"])
                if group.bodies:
                    yield group.bodies


def _items(bundle: Bundle, format_: str, options: ImportOptions, tally: Tally) -> Iterator[Item]:
    found = detect(bundle, options) if format_ == _AUTO else FORMATS[format_]
    if found.name not in tally.formats:
        tally.formats[found.name] = None
        print_note(f"{bundle.title}: {found.title}")
    return read_items(found, bundle, options)


async def _import(
    files: Sequence[Path],
    format_: str,
    options: ImportOptions,
    assignment: Assignment,
    tally: Tally,
    base_url: str,
    batch: int,
    *,
    wait: bool,
) -> None:
    started = time.monotonic()
    key = load_settings().client_key
    async with ServiceClient(base_url, api_key=key, retries=LONG_RETRIES) as client:
        await client.live()
        with progress("bytes imported", _size_bytes(files)) as bar:
            bodies = _groups(files, format_, options, assignment, tally, bar, batch)
            await _send_all(client, bodies, tally)
        tally.seconds = time.monotonic() - started
        if wait:
            with progress("blocks enriched", tally.stored) as bar:
                await wait_until_enriched(client, list(tally.users), bar)
            tally.failed = len(await failed_blocks(client, list(tally.users)))


def _size_bytes(files: Sequence[Path]) -> int:
    total = 0
    for path in files:
        with open_bundle(path) as bundle:
            total += sum(document.size_bytes for document in bundle.documents)
    return total


async def _send_all(
    client: ServiceClient, groups: Iterator[list[dict[str, Any]]], tally: Tally
) -> None:
    in_flight: set[asyncio.Task[None]] = set()
    try:
        while (group := await asyncio.to_thread(next, groups, None)) is not None:
            if len(in_flight) >= _IN_FLIGHT_MAX:
                done, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            in_flight.add(asyncio.create_task(_send(client, group, tally)))
        await asyncio.gather(*in_flight)
    finally:
        for task in in_flight:
            task.cancel()


async def _send(client: ServiceClient, group: Sequence[dict[str, Any]], tally: Tally) -> None:
    for item in await store_group(client, group):
        if item.error is not None:
            detail = f"{item.error.field or ''} {item.error.detail}".strip()
            tally.refuse(group[item.index], item.error.code, detail)
        else:
            tally.stored += 1


def _say(tally: Tally, *, dry_run: bool) -> None:
    total = sum(tally.users.values())
    facts: dict[str, object] = {
        "would store" if dry_run else "stored": total if dry_run else tally.stored
    }
    if tally.refused:
        facts["refused"] = tally.refused
    if tally.failed:
        facts["enrichment failed"] = tally.failed
    facts["skipped"] = sum(tally.skipped.values())
    if not dry_run:
        facts["seconds"] = f"{tally.seconds:.1f}"
        facts["blocks/s"] = f"{tally.stored / tally.seconds:.0f}" if tally.seconds else "0"
    out = console()
    out.print(" · ".join(f"{name} {value}" for name, value in facts.items()), soft_wrap=True)
    for reason, count in tally.skipped.most_common():
        out.print(f"  skipped {reason}: {count}", soft_wrap=True)
    if tally.earliest and tally.latest:
        out.print(f"  from {tally.earliest:%Y-%m-%d %H:%M %z} to {tally.latest:%Y-%m-%d %H:%M %z}")
    if tally.without_time:
        out.print(
            f"  {tally.without_time} without a time of their own: stored as of now", soft_wrap=True
        )
    for user, count in tally.users.most_common(10):
        out.print(printable(f"  user {user}: {count}"), soft_wrap=True)
    if dry_run:
        for block in tally.samples:
            when = f"{block.occurred_at:%Y-%m-%d %H:%M}" if block.occurred_at else "no time"
            text = f"  {when}  {block.speaker or '-'}: {shortened(block.content, 100)}"
            out.print(printable(text), soft_wrap=True, markup=False)
    if tally.skipped or tally.refused:
        out.print(printable(f"  listed in {tally.report_path}"), soft_wrap=True, markup=False)
