"""The memory tool of Anthropic's SDK, with its files kept as items."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from luma_memory.client import Conflict, Invalid, PreconditionFailed
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.files import FILE_INDEX, FILES, file_text, file_value
from luma_memory.integrations.missing import extra_missing
from luma_memory.protocol.items import ItemBody

try:
    from anthropic.lib.tools import (
        BetaAbstractMemoryTool,
        BetaAsyncAbstractMemoryTool,
        ToolError,
    )
    from anthropic.types.beta import (
        BetaMemoryTool20250818CreateCommand,
        BetaMemoryTool20250818DeleteCommand,
        BetaMemoryTool20250818InsertCommand,
        BetaMemoryTool20250818RenameCommand,
        BetaMemoryTool20250818StrReplaceCommand,
        BetaMemoryTool20250818ViewCommand,
    )
except ModuleNotFoundError as error:
    raise extra_missing(error, "anthropic") from error

_ROOT: Final = "/memories"
_PATH_CHARACTERS_MAX: Final = 256
_LINES_MAX: Final = 999_999
_NUMBER_WIDTH: Final = len(str(_LINES_MAX))
# What a folder takes on the file systems that the tool's own implementation runs on.
_FOLDER_BYTES: Final = 4096
_UNITS: Final = "BKMG"
# An edit is repeated on the text that a concurrent one has written.
_TRIES: Final = 20
_BATCH: Final = 500


class LumaMemoryTool(BetaAbstractMemoryTool):
    """The memory tool over the files of one user; see docs/integrations/anthropic.md.

    url, api_key: of the service. user_id: whose files. Outputs and errors are those of the SDK's
    own implementation on a local folder. An edit that meets a concurrent one is applied again to
    the new text; if the text it replaces is no longer there, it gets the tool's usual error.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, user_id: str = "default", **options: Any
    ) -> None:
        super().__init__(**options)
        self._files = _Files(Clients(url, api_key), user_id)

    def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """List a folder, or show a file with line numbers."""
        path = _relative(command.path)
        entry = self._files.find(path)
        if entry is None:
            raise _missing(command.path)
        if entry.text is None:
            return _listing(command.path, path, self._files.all())
        return _numbered(command, entry.text)

    def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """Create a file, with the folders above it."""
        path = _relative(command.path)
        if not path or not self._files.create(path, command.file_text):
            raise ToolError(f"File {command.path} already exists")
        return f"File created successfully at: {command.path}"

    def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """Replace a text that occurs once."""

        def replaced(text: str) -> str:
            _check_once(text, command)
            return text.replace(command.old_str, command.new_str)

        before, after = self._files.edit(command.path, replaced)
        line = before[: before.find(command.old_str)].count("\n")
        lines = after.split("\n")
        start = max(0, line - 2)
        shown = _with_numbers(lines[start : line + 3], start + 1)
        return (
            "The memory file has been edited. Here is the snippet showing the change"
            " (with line numbers):\n" + "\n".join(shown)
        )

    def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """Insert a text after a line."""

        def inserted(text: str) -> str:
            lines = text.split("\n")
            if lines[-1] == "":
                lines.pop()
            if not 0 <= command.insert_line <= len(lines):
                raise ToolError(
                    f"Invalid `insert_line` parameter: {command.insert_line}. "
                    f"It should be within the range [0, {len(lines)}]."
                )
            lines.insert(command.insert_line, command.insert_text.rstrip("\n"))
            joined = "\n".join(lines)
            return joined if joined.endswith("\n") else joined + "\n"

        self._files.edit(command.path, inserted)
        return f"The file {command.path} has been edited."

    def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """Delete a file, or a folder with all in it."""
        path = _relative(command.path)
        if not path:
            raise ToolError("Cannot delete the /memories directory itself")
        if not self._files.delete(path):
            raise ToolError(f"The path {command.path} does not exist")
        return f"Successfully deleted {command.path}"

    def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """Move a file or a folder."""
        old, new = _relative(command.old_path), _relative(command.new_path)
        if not old:
            raise ToolError("Cannot rename the /memories directory itself")
        if self._files.find(new) is not None:
            raise ToolError(f"The destination {command.new_path} already exists")
        self._files.rename(command.old_path, old, command.new_path, new)
        return f"Successfully renamed {command.old_path} to {command.new_path}"

    def clear_all_memory(self) -> str:
        """Delete all files of the user."""
        self._files.clear()
        return "All memory cleared"


class LumaAsyncMemoryTool(BetaAsyncAbstractMemoryTool):
    """LumaMemoryTool for the asynchronous SDK: its calls run in threads."""

    def __init__(
        self, url: str, api_key: str | None = None, *, user_id: str = "default", **options: Any
    ) -> None:
        super().__init__(**options)
        self._tool = LumaMemoryTool(url, api_key, user_id=user_id)

    async def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        return await asyncio.to_thread(self._tool.view, command)

    async def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        return await asyncio.to_thread(self._tool.create, command)

    async def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        return await asyncio.to_thread(self._tool.str_replace, command)

    async def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        return await asyncio.to_thread(self._tool.insert, command)

    async def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        return await asyncio.to_thread(self._tool.delete, command)

    async def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        return await asyncio.to_thread(self._tool.rename, command)

    async def clear_all_memory(self) -> str:
        return await asyncio.to_thread(self._tool.clear_all_memory)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file, or a folder."""

    path: str  # below the root, "" for the root itself
    text: str | None  # None: a folder
    etag: str = "*"


class _Files:
    """Files and folders as items: the key is the path, the value a text or a folder's mark."""

    def __init__(self, clients: Clients, user_id: str) -> None:
        self._clients = clients
        self._user_id = user_id

    def find(self, path: str) -> _Entry | None:
        if not path:
            return _Entry("", None)
        item = self._clients.blocking.get_item(FILES, path, user_id=self._user_id)
        return None if item is None else _entry(item)

    def all(self) -> list[_Entry]:
        items = self._clients.blocking.iterate_items(
            FILES, user_id=self._user_id, exact=True, page_size=_BATCH
        )
        return [_entry(item) for item in items]

    def create(self, path: str, text: str) -> bool:
        """False if there is something of this name already."""
        self._make_folders(path)
        return self._put(path, text, if_absent=True)

    def edit(self, shown: str, change: Any) -> tuple[str, str]:
        """Apply `change` to the text of a file; the text before and after."""
        path = _relative(shown)
        for attempt in range(_TRIES):
            entry = self.find(path)
            if entry is None:
                raise _vanished(shown) if attempt else _missing(shown)
            if entry.text is None:
                raise ToolError(f"The path {shown} is not a file.")
            after = change(entry.text)
            if self._put(path, after, etag=entry.etag):
                return entry.text, after
        raise ToolError(f"The file {shown} is being edited by others. Please try again.")

    def delete(self, path: str) -> bool:
        entry = self.find(path)
        if entry is None:
            return False
        below = [] if entry.text is not None else [e for e in self.all() if _is_below(e, path)]
        self._run({"op": "delete", **_name(one.path)} for one in [*below, entry])
        return True

    def rename(self, shown_old: str, old: str, shown_new: str, new: str) -> None:
        """Move a file, or a folder with all in it.

        Of two who move the same, one wins. What others write into a folder meanwhile moves with it.
        """
        if new.startswith(f"{old}/"):
            raise ToolError(f"Cannot move {shown_old} into itself: {shown_new}")
        self._make_folders(new)
        entry = self.find(old)
        if entry is None:
            raise ToolError(f"The path {shown_old} does not exist")
        # A folder's own mark first: it decides who moves what is in it.
        if not self._move(old, new, shown_new):
            raise _vanished(shown_old)
        if entry.text is not None:
            return
        for _ in range(_TRIES):
            below = [one.path for one in self.all() if _is_below(one, old)]
            for path in below:
                self._move(path, new + path[len(old) :], shown_new)
            if not below:
                return
        raise ToolError(f"The path {shown_old} is being edited by others. Please try again.")

    def _move(self, old: str, new: str, shown_new: str) -> bool:
        """Move one entry with its latest text; False if others have moved or deleted it."""
        for attempt in range(_TRIES):
            entry = self.find(old)
            if entry is None:
                break
            if not self._put(new, entry.text, if_absent=attempt == 0):
                raise ToolError(f"The destination {shown_new} already exists")
            try:
                self._clients.blocking.delete_item(
                    FILES, old, user_id=self._user_id, etag=entry.etag
                )
            except PreconditionFailed:
                continue  # it has been edited
            return True
        else:
            self._run([{"op": "delete", **_name(new)}])
            raise ToolError(f"The file {_ROOT}/{old} is being edited by others. Please try again.")
        if attempt > 0:
            self._run([{"op": "delete", **_name(new)}])
        return False

    def clear(self) -> None:
        self._run({"op": "delete", **_name(one.path)} for one in self.all())

    def _make_folders(self, path: str) -> None:
        """Those above the path that are missing. Raises ToolError where one is a file."""
        above = list(_above(path))
        if not above:
            return
        response = self._clients.blocking.batch_items(
            [{"op": "get", **_name(folder)} for folder in above], user_id=self._user_id
        )
        for folder, result in zip(above, response.results, strict=True):
            if result.item is not None and _entry(result.item).text is not None:
                raise ToolError(f"The path {_ROOT}/{folder} is not a directory")
        missing = [f for f, r in zip(above, response.results, strict=True) if r.item is None]
        self._run(
            {"op": "put", **_name(f), "value": file_value(None), "index": False, "if_absent": True}
            for f in missing
        )

    def _put(
        self, path: str, text: str | None, *, if_absent: bool = False, etag: str | None = None
    ) -> bool:
        """False if the condition does not hold."""
        try:
            self._clients.blocking.put_item(
                FILES,
                path,
                file_value(text),
                user_id=self._user_id,
                index=False if text is None else list(FILE_INDEX),
                if_absent=if_absent,
                etag=etag,
            )
        except (Conflict, PreconditionFailed):
            return False
        except Invalid as error:
            raise ToolError(f"The file {_ROOT}/{path} cannot be stored: {error}") from error
        return True

    def _run(self, operations: Any) -> None:
        found = list(operations)
        for start in range(0, len(found), _BATCH):
            self._clients.blocking.batch_items(found[start : start + _BATCH], user_id=self._user_id)


def _name(path: str) -> dict[str, Any]:
    return {"namespace": list(FILES), "key": path}


def _entry(item: ItemBody) -> _Entry:
    return _Entry(item.key, file_text(item.value), item.etag)


def _relative(path: str) -> str:
    """The path below the root, "" for the root. Raises ToolError for one that leaves it."""
    if not path.startswith(_ROOT):
        raise ToolError(f"Path must start with /memories, got: {path}")
    rest = path[len(_ROOT) :].lstrip("/")
    resolved = posixpath.normpath(posixpath.join(_ROOT, rest))
    if resolved != _ROOT and not resolved.startswith(f"{_ROOT}/"):
        raise ToolError(f"Path {path} would escape /memories directory")
    relative = resolved[len(_ROOT) + 1 :]
    if len(relative) > _PATH_CHARACTERS_MAX or "\x00" in relative:
        raise ToolError(f"Path {path} is too long or has a character that paths cannot have")
    return relative


def _above(path: str) -> Iterator[str]:
    """The folders above a path, the highest first."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        yield "/".join(parts[:depth])


def _is_below(entry: _Entry, folder: str) -> bool:
    return not folder or entry.path.startswith(f"{folder}/")


def _listing(shown: str, folder: str, entries: Sequence[_Entry]) -> str:
    lines = [f"{_size(_FOLDER_BYTES)}\t{shown}"]
    start = len(folder) + 1 if folder else 0
    found = {
        tuple(entry.path[start:].split("/")): entry for entry in entries if _is_below(entry, folder)
    }
    for parts, entry in sorted(found.items()):
        if len(parts) > 2 or any(part.startswith(".") for part in parts):
            continue
        name = "/".join(parts)
        if entry.text is None:
            lines.append(f"{_size(_FOLDER_BYTES)}\t{shown}/{name}/")
        else:
            lines.append(f"{_size(len(entry.text.encode()))}\t{shown}/{name}")
    header = (
        f"Here're the files and directories up to 2 levels deep in {shown}, excluding hidden items:"
    )
    return f"{header}\n" + "\n".join(lines)


def _numbered(command: BetaMemoryTool20250818ViewCommand, text: str) -> str:
    lines = text.split("\n")
    if len(lines) > _LINES_MAX:
        raise ToolError(f"File {command.path} exceeds maximum line limit of 999,999 lines.")
    first = 1
    if command.view_range and len(command.view_range) == 2:
        start, stop = command.view_range
        first = max(1, start)
        lines = lines[first - 1 : len(lines) if stop == -1 else stop]
    shown = "\n".join(_with_numbers(lines, first))
    return f"Here's the content of {command.path} with line numbers:\n{shown}"


def _with_numbers(lines: Sequence[str], first: int) -> list[str]:
    return [f"{n:>{_NUMBER_WIDTH}}\t{line}" for n, line in enumerate(lines, first)]


def _check_once(text: str, command: BetaMemoryTool20250818StrReplaceCommand) -> None:
    count = text.count(command.old_str)
    if count == 0:
        raise ToolError(
            f"No replacement was performed, old_str `{command.old_str}` did not appear verbatim"
            f" in {command.path}."
        )
    if count == 1:
        return
    lines = []
    position = text.find(command.old_str)
    while position != -1:
        lines.append(str(text[:position].count("\n") + 1))
        position = text.find(command.old_str, position + 1)
    raise ToolError(
        f"No replacement was performed. Multiple occurrences of old_str `{command.old_str}` in"
        f" lines: {', '.join(lines)}. Please ensure it is unique"
    )


def _size(size_bytes: int) -> str:
    if size_bytes == 0:
        return "0B"
    unit = min((size_bytes.bit_length() - 1) // 10, len(_UNITS) - 1)
    size = size_bytes / 1024**unit
    return f"{size:.0f}{_UNITS[unit]}" if size == int(size) else f"{size:.1f}{_UNITS[unit]}"


def _missing(shown: str) -> ToolError:
    return ToolError(f"The path {shown} does not exist. Please provide a valid path.")


def _vanished(shown: str) -> ToolError:
    return ToolError(
        f"The file {shown} no longer exists (may have been deleted or renamed concurrently)."
    )
