"""`export`: write everything of a user to a file, in our own form or in that of other programs."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, Protocol

import typer

from luma_memory.bootstrap.private_files import open_private
from luma_memory.cli.commands import examples
from luma_memory.cli.options import Url, User, service_url
from luma_memory.cli.output import print_note, printable
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.exporters.markdown import MarkdownExport
from luma_memory.exporters.mem0 import Mem0Export
from luma_memory.exporters.rows import Counts
from luma_memory.settings import load_settings

ExportFormat = Literal["ndjson", "mem0", "markdown"]
_PARTIAL: Final = ".partial"


class Form(Protocol):
    """Takes an export line by line. counts: None where everything is in it."""

    @property
    def counts(self) -> Counts | None: ...

    def take(self, line: bytes) -> None: ...

    def end(self) -> None: ...


@examples(
    "luma-memory export --user ada --output ada.ndjson",
    "luma-memory export --user ada --format mem0 > ada.json",
    "luma-memory export --user ada --format markdown --output notes",
    "luma-memory export --user ada --format markdown --output notes.zip",
)
def export(
    user: User,
    format_: Annotated[
        ExportFormat,
        typer.Option("--format", help="ndjson has everything; the others have the blocks."),
    ] = "ndjson",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            help="A new file; for Markdown a new folder or .zip file. Standard output without it.",
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Write everything of a user to a file; needs a key with the permission `admin`.

    `ndjson` is what `POST /users/{id}/import` reads, with vectors, relations and summaries. `mem0`
    is the JSON of mem0's exports, `markdown` a note with front matter for each block; `luma-memory
    import` reads both. The file has its name only once the export is complete.
    """
    if format_ == "markdown" and output is None:
        raise typer.BadParameter("name a folder or a .zip file", param_hint="--output")
    if output is not None and output.exists():
        raise typer.BadParameter(f"{printable(str(output))} exists", param_hint="--output")
    with _opened(format_, output) as form:
        run_async(_export(user, form, service_url(url, load_settings())))
    if form.counts is not None:
        left_out = [f"{count} {what} left out" for what, count in form.counts.left_out.items()]
        print_note(", ".join([f"{form.counts.written} blocks", *left_out]))


async def _export(user: str, form: Form, base_url: str) -> None:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        await client.live()
        async for line in client.export_user(user):
            form.take(line)
    form.end()


@contextmanager
def _opened(format_: ExportFormat, output: Path | None) -> Iterator[Form]:
    """What takes the lines; it gets its name at the end, if nothing failed."""
    if output is None:
        yield _form(format_, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(output.name + _PARTIAL)
    try:
        if format_ == "markdown" and output.suffix.lower() != ".zip":
            partial.mkdir(mode=0o700)
            yield MarkdownExport(_adding_files(partial))
        else:
            with open(partial, "xb", opener=open_private) as file:
                yield from _written(format_, file)
        partial.rename(output)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _written(format_: ExportFormat, file: BinaryIO) -> Iterator[Form]:
    if format_ == "markdown":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            yield MarkdownExport(archive.writestr)
    else:
        yield _form(format_, file)


class _Lines:
    """Our own form: the lines as they are."""

    counts: Counts | None = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, line: bytes) -> None:
        self._file.write(line)

    def end(self) -> None:
        """The last line is the end."""


def _form(format_: ExportFormat, file: BinaryIO) -> Form:
    return Mem0Export(file) if format_ == "mem0" else _Lines(file)


def _adding_files(folder: Path) -> Callable[[str, str], None]:
    def add(path: str, content: str) -> None:
        target = folder / path
        target.parent.mkdir(exist_ok=True, mode=0o700)
        with open(target, "x", encoding="utf-8", newline="\n", opener=open_private) as file:
            file.write(content)

    return add
