"""`ingest`: store blocks from a JSON Lines file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from luma_memory.cli.commands import examples
from luma_memory.cli.groups import store_group
from luma_memory.cli.json_lines import BadLine, BlockLine, batches, read_lines
from luma_memory.cli.options import Url, service_url
from luma_memory.cli.output import Bar, console, print_note, printable, progress
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.waiting import failed_blocks, wait_until_enriched
from luma_memory.protocol.blocks import BATCH_BLOCKS_MAX, BatchItem
from luma_memory.settings import load_settings

_SHOWN_MAX = 100


def _file_or_dash(path: Path) -> Path:
    # Typer's own `exists` rejects "-" for a Path.
    if str(path) != "-" and not path.is_file():
        raise typer.BadParameter(f"there is no file {printable(str(path))}")
    return path


@examples(
    "luma-memory ingest notes.jsonl --user ada",
    "luma-memory ingest export.jsonl --wait",
    "cat *.jsonl | luma-memory ingest - --url http://127.0.0.1:9000",
    """echo '{"user_id": "ada", "content": "Moved to Lisbon."}' | luma-memory ingest -""",
)
def ingest(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|-",
            callback=_file_or_dash,
            help="JSON Lines, each a block as for POST /blocks; - reads standard input.",
        ),
    ],
    url: Url = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="The user_id of lines without one."),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            "--batch", metavar="N", min=1, max=BATCH_BLOCKS_MAX, help="Blocks per request."
        ),
    ] = 200,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when all blocks are enriched.")
    ] = False,
) -> None:
    """Store the blocks of a JSON Lines file.

    Running it again, also after an interruption, stores nothing twice. An invalid line is reported
    with its number and an error code; the other lines are stored, and the exit code is 1.
    """
    base_url = service_url(url, load_settings())
    with _opened(file) as stream:
        report = run_async(_ingest(stream, base_url, user=user, batch=batch, wait=wait))
    _print(report)
    if report.bad or report.failed:
        raise typer.Exit(1)


@dataclass(slots=True)
class Report:
    """The outcome of the lines."""

    accepted: int = 0
    bad: list[BadLine] = field(default_factory=list)
    users: dict[str, None] = field(default_factory=dict)  # in order of their first block
    seconds: float = 0.0
    failed: int = 0


async def _ingest(
    stream: BinaryIO, base_url: str, *, user: str | None, batch: int, wait: bool
) -> Report:
    report = Report()
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        await client.live()
        started = time.monotonic()
        with progress("blocks accepted", None) as bar:
            for group in batches(_good(stream, user, report), count_max=batch):
                await _send(client, group, report, bar)
        report.seconds = time.monotonic() - started
        if wait:
            with progress("blocks enriched", report.accepted) as bar:
                await wait_until_enriched(client, list(report.users), bar)
            report.failed = len(await failed_blocks(client, list(report.users)))
    return report


def _good(stream: BinaryIO, user: str | None, report: Report) -> Iterator[BlockLine]:
    for line in read_lines(stream, user_id=user):
        if isinstance(line, BlockLine):
            yield line
        else:
            _reject(report, line)


async def _send(
    client: ServiceClient, group: Sequence[BlockLine], report: Report, bar: Bar
) -> None:
    before = report.accepted
    for item in await store_group(client, [line.body for line in group]):
        _record(item, group[item.index], report)
    bar.advance(report.accepted - before)


def _record(item: BatchItem, line: BlockLine, report: Report) -> None:
    if item.error is not None:
        where = f"{item.error.field}: " if item.error.field else ""
        _reject(report, BadLine(line.number, item.error.code, where + item.error.detail))
        return
    report.accepted += 1
    report.users.setdefault(str(line.body.get("user_id")))


def _reject(report: Report, line: BadLine) -> None:
    report.bad.append(line)
    if len(report.bad) <= _SHOWN_MAX:
        print_note(f"line {line.number}: {line.code}: {line.detail}")
    elif len(report.bad) == _SHOWN_MAX + 1:
        print_note(f"more than {_SHOWN_MAX} invalid lines; further ones are only counted")


def _print(report: Report) -> None:
    rate = report.accepted / report.seconds if report.seconds else 0.0
    parts: Mapping[str, object] = {
        "accepted": f"{report.accepted}",
        "rejected": f"{len(report.bad)}",
        "seconds": f"{report.seconds:.2f}",
        "blocks/s": f"{rate:.0f}",
    }
    if report.failed:
        parts = {**parts, "enrichment failed": f"{report.failed}"}
    line = " · ".join(f"{name} {value}" for name, value in parts.items())
    console().print(printable(line), soft_wrap=True)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as stream:
        yield stream
