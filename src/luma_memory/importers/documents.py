"""Files, folders and zip archives as named documents that can be read as streams.

What a document is read with raises Invalid alone, whatever the file holds: an archive that breaks
off, an encrypted entry, bytes in another encoding.
"""

from __future__ import annotations

import codecs
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from luma_memory.domain.errors import Invalid

# A zip entry that claims more than this, or to unpack to 200 times its size, is not opened: real
# exports stay far below both, even after years.
_ENTRY_BYTES_MAX: Final = 32 << 30
_RATIO_MAX: Final = 200
_RATIO_FREE_BYTES: Final = 64 << 20
_BOM: Final = codecs.BOM_UTF8
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# How much of a text is examined before its first line is read.
_START_BYTES: Final = 1 << 16
_ARCHIVE: Final = b"PK\x03\x04"
# What the module raises for archives whose bytes were changed.
_DAMAGES: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, ValueError, LookupError, OverflowError),
)
# Of one line; no message is longer.
LINE_CHARACTERS_MAX: Final = 4_000_000


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
        """The document as UTF-8 without a byte order mark; UTF-16 with its mark is converted.

        counted: reads are progress.
        """
        with self._opened(counted) as reader:
            start = reader.peek(3)[:3]
            if start[:2] in _UTF_16:
                text = io.TextIOWrapper(reader, "utf-16", errors="replace", newline="")
                yield io.BufferedReader(_AsUtf8(text), _START_BYTES)
                return
            if start == _BOM:
                reader.read(3)
            yield reader

    @contextmanager
    def text(self, *, counted: bool = True, is_checked: bool = True) -> Iterator[io.TextIOWrapper]:
        """The document as text: UTF-8, or UTF-16 with its mark.

        Raises Invalid (code encoding_unknown) if it is checked and begins in another encoding;
        other bad bytes are replaced.
        """
        with self._opened(counted) as reader:
            start = reader.peek(_START_BYTES)[:_START_BYTES]
            encoding = "utf-16" if start[:2] in _UTF_16 else "utf-8-sig"
            try:
                codecs.getincrementaldecoder(encoding)().decode(start if is_checked else b"")
            except UnicodeDecodeError as error:
                raise Invalid(
                    f"{self.name} is not UTF-8 (byte {error.start + 1}): convert it, for example"
                    " with iconv -f WINDOWS-1252 -t UTF-8",
                    code="encoding_unknown",
                ) from error
            yield io.TextIOWrapper(reader, encoding=encoding, errors="replace", newline=None)

    @contextmanager
    def _opened(self, counted: bool) -> Iterator[io.BufferedReader]:
        with _explained(self.name):
            raw = self._open()
        with raw:
            on_read = self.on_read if counted else None
            yield io.BufferedReader(_Counted(raw, self.name, on_read), _START_BYTES)


def bounded_lines(text: io.TextIOBase | BinaryIO) -> Iterator[tuple[int, Any]]:
    """The lines of a text or of bytes, with their numbers; None for one that is too long.

    No line is ever held whole beyond LINE_CHARACTERS_MAX.
    """
    number = 0
    while line := text.readline(LINE_CHARACTERS_MAX):
        number += 1
        end = "\n" if isinstance(line, str) else b"\n"
        if len(line) < LINE_CHARACTERS_MAX or line.endswith(end):  # type: ignore[arg-type]
            yield number, line
            continue
        while line and not line.endswith(end):  # type: ignore[arg-type]
            line = text.readline(LINE_CHARACTERS_MAX)
        yield number, None


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
    with _explained(str(path)):
        mode = path.stat().st_mode
        is_archive = stat.S_ISREG(mode) and _is_archive(path)
    if stat.S_ISDIR(mode):
        with _explained(str(path)):
            documents = _of_folder(path, on_read)
        yield Bundle(path.name, documents)
    elif is_archive:
        with _explained(str(path)):
            archive = zipfile.ZipFile(path)
        with archive:
            yield Bundle(path.stem, _of_archive(archive, on_read))
    elif stat.S_ISREG(mode):
        document = Document(path.name, path.stat().st_size, lambda: path.open("rb"), on_read)
        yield Bundle(path.stem, [document])
    else:
        raise Invalid(f"{path} is neither a file nor a folder", code="file_unreadable")


def _is_archive(path: Path) -> bool:
    """Also one that broke off, which has no directory at its end any more."""
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE or zipfile.is_zipfile(path)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what goes wrong with a file into Invalid."""
    try:
        yield
    except FileNotFoundError as error:
        raise Invalid(f"There is no file {name}", code="file_not_found") from error
    except _DAMAGES as error:
        raise Invalid(
            f"{name} is a damaged or incomplete archive: {error}", code="file_unreadable"
        ) from error
    except (OSError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: an entry is encrypted. NotImplementedError: an unknown compression.
        reason = getattr(error, "strerror", None) or str(error).partition(":")[0]
        if isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
            reason = "it is encrypted; unpack it and import the folder"
        raise Invalid(f"{name} can't be read: {reason}", code="file_unreadable") from error


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
    """Forwards reads, reports their sizes and explains what fails."""

    def __init__(self, raw: BinaryIO, name: str, on_read: Callable[[int], None] | None) -> None:
        self._raw = raw
        self._name = name
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        with _explained(self._name):
            data = self._raw.read(len(view))
        view[: len(data)] = data
        if self._on_read is not None:
            self._on_read(len(data))
        return len(data)


class _AsUtf8(io.RawIOBase):
    """A text as the bytes of its UTF-8."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._text.read(max(1, len(view) // 4)).encode("utf-8", "replace")
        view[: len(data)] = data
        return len(data)
