"""Files, folders and zip archives as named documents that can be read as streams."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from luma_memory.domain.errors import Invalid

# A zip entry that claims more than this, or to unpack to 200 times its size, is not opened: real
# exports stay far below both, even after years.
_ENTRY_BYTES_MAX: Final = 32 << 30
_RATIO_MAX: Final = 200
_RATIO_FREE_BYTES: Final = 64 << 20
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Document:
    """One file, on disk or in an archive.

    name: relative to the folder or archive, with `/`. size_bytes: unpacked. on_read receives the
    number of bytes of every read that counts as progress.
    """

    name: str
    size_bytes: int
    _open: Callable[[], BinaryIO]
    on_read: Callable[[int], None] = field(default=lambda _count: None, compare=False)

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2].rpartition(".")[0]

    @contextmanager
    def bytes(self, *, counted: bool = True) -> Iterator[BinaryIO]:
        """The document as bytes, without a byte order mark. counted: reads are progress."""
        with self._open() as raw:
            reader = io.BufferedReader(_Counted(raw, self.on_read if counted else None), 1 << 16)
            if reader.peek(3)[:3] == _BOM:
                reader.read(3)
            yield reader

    @contextmanager
    def text(self, *, counted: bool = True) -> Iterator[io.TextIOWrapper]:
        """The document as text: UTF-8, or UTF-16 with its mark; bad bytes are replaced."""
        with self._open() as raw:
            reader = io.BufferedReader(_Counted(raw, self.on_read if counted else None), 1 << 16)
            start = reader.peek(3)[:3]
            encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            yield io.TextIOWrapper(reader, encoding=encoding, errors="replace", newline=None)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The documents of one path, in order of their names."""

    title: str  # name of the path without its ending
    documents: Sequence[Document]

    def named(self, *names: str) -> Sequence[Document]:
        """The documents with one of these names, in any folder."""
        return [
            document
            for document in self.documents
            if document.name.rpartition("/")[2].lower() in names
        ]

    def ending(self, *endings: str) -> Sequence[Document]:
        return [document for document in self.documents if document.name.lower().endswith(endings)]


@contextmanager
def open_bundle(
    path: Path, on_read: Callable[[int], None] = lambda _count: None
) -> Iterator[Bundle]:
    """A file, a folder or a zip archive. Raises Invalid when it can't be read."""
    try:
        if path.is_dir():
            yield Bundle(path.name, _of_folder(path, on_read))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield Bundle(path.stem, _of_archive(archive, on_read))
        else:
            document = Document(path.name, path.stat().st_size, lambda: path.open("rb"), on_read)
            yield Bundle(path.stem, [document])
    except FileNotFoundError as error:
        raise Invalid(f"There is no file {path}", code="file_not_found") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise Invalid(f"{path} can't be read: {error}", code="file_unreadable") from error


def _of_folder(folder: Path, on_read: Callable[[int], None]) -> Sequence[Document]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [
        Document(
            path.relative_to(folder).as_posix(),
            path.stat().st_size,
            lambda path=path: path.open("rb"),  # type: ignore[misc]
            on_read,
        )
        for path in paths
    ]


def _of_archive(archive: zipfile.ZipFile, on_read: Callable[[int], None]) -> Sequence[Document]:
    entries = sorted(
        (entry for entry in archive.infolist() if not entry.is_dir()),
        key=lambda entry: entry.filename,
    )
    return [
        Document(
            entry.filename,
            entry.file_size,
            lambda entry=entry: _open_entry(archive, entry),  # type: ignore[misc]
            on_read,
        )
        for entry in entries
        if not entry.filename.startswith("__MACOSX/")
    ]


def _open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    ratio_bytes_max = max(_RATIO_FREE_BYTES, entry.compress_size * _RATIO_MAX)
    if entry.file_size > min(_ENTRY_BYTES_MAX, ratio_bytes_max):
        raise Invalid(
            f"{entry.filename} claims to unpack to {entry.file_size:,} bytes; unpack it yourself"
            " and import the folder",
            code="archive_suspicious",
        )
    opened = archive.open(entry)
    assert isinstance(opened, io.BufferedIOBase)
    return opened  # type: ignore[return-value]


class _Counted(io.RawIOBase):
    """Forwards reads and reports their sizes."""

    def __init__(self, raw: BinaryIO, on_read: Callable[[int], None] | None) -> None:
        self._raw = raw
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._raw.read(len(view))
        view[: len(data)] = data
        if self._on_read is not None:
            self._on_read(len(data))
        return len(data)
